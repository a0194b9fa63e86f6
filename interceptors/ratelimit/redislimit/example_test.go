//go:build unix

package redislimit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/grpcguard/grpcguard/interceptors/ratelimit"
	"github.com/grpcguard/grpcguard/interceptors/ratelimit/redislimit"
)

// Ten purchases a minute from an account, however many processes serve them.
func ExampleNew() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "127.0.0.1:1", // where no Redis is
		ContextTimeoutEnabled: true,
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           time.Second,
	})
	defer client.Close()
	store, err := redislimit.New(client, redislimit.WithOnChange(func(c redislimit.Change) {
		log.Printf("limits are shared: %v (%v)", c.Up, c.Err)
	}))
	if err != nil {
		log.Print(err)
		return
	}
	defer store.Close()

	purchases := &ratelimit.Shared{Name: "purchases", Limit: ratelimit.Limit{Permits: 10, Per: time.Minute}}
	if err := store.Check(purchases); err != nil {
		log.Print(err)
		return
	}
	key := ratelimit.Key(nil).Text("DE89370400440532013000")
	result, _, err := store.Take(context.Background(), []ratelimit.Demand{{Limit: purchases, Key: key, Cost: 1}})
	switch {
	case errors.Is(err, redislimit.ErrDown):
		fmt.Println("redis has been down for some time: nothing is known")
	case err != nil:
		fmt.Println("redis did not answer: nothing is known")
	case !result.Allowed:
		fmt.Println("too many purchases, the next one in", result.RetryAfter)
	default:
		fmt.Println("allowed")
	}
	// Output: redis did not answer: nothing is known
}
