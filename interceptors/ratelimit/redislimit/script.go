package redislimit

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed take.lua
var script string

var scriptSum = func() string {
	sum := sha1.Sum([]byte(script)) //nolint:gosec // Redis names scripts by it
	return hex.EncodeToString(sum[:])
}()

// reply is what Redis decided.
type reply struct {
	// refused is the index of the part that there were too few permits for, -1 if all were taken.
	refused int
	wait    time.Duration
	// at is Redis's time of the decision, in microseconds since 2026.
	at int64
	// taken are the permits of each part.
	taken []int64
}

// errNotAsked says that Redis had no chance to answer, for want of a free connection.
var errNotAsked = errors.New("redislimit: redis was not asked in time: no connection was free")

// departure is an argument that notes when go-redis writes it, which it does when it has got a connection.
type departure struct {
	number int
	// at is when it was written, 0 if it was not.
	at    atomic.Int64
	clock func() time.Duration
}

// MarshalBinary is called by go-redis.
func (d *departure) MarshalBinary() ([]byte, error) {
	d.at.Store(int64(d.clock()))
	return strconv.AppendInt(nil, int64(d.number), 10), nil
}

// run asks Redis, once, and once more if it does not know the script: then nothing has been taken yet. Redis has the time allowed to
// answer. Connections may be used by others too: if the wait for one took most of that time, the error is errNotAsked.
func (s *Store) run(ctx context.Context, parts []part, allowed time.Duration) (reply, error) {
	left := &departure{number: len(parts), clock: s.now}
	args := make([]any, 3, 3+6*len(parts))
	args[0], args[1], args[2] = "evalsha", scriptSum, left
	for i := range parts {
		args = append(args, s.redisKey(&parts[i].id))
	}
	for i := range parts {
		p := &parts[i]
		args = append(args, p.plan.ratio, p.plan.unit, p.plan.ticks, p.least, p.most)
	}
	numbers, err := s.process(ctx, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		args[0], args[1] = "eval", script
		numbers, err = s.process(ctx, args)
	}
	if err != nil {
		if s.notAsked(err, time.Duration(left.at.Load()), allowed) {
			err = fmt.Errorf("%w: %w", errNotAsked, err)
		}
		return reply{}, err
	}
	return read(numbers, parts)
}

// notAsked reports whether err comes of waiting for a connection. One that cannot be made is another matter.
func (s *Store) notAsked(err error, left, allowed time.Duration) bool {
	switch {
	case left > 0: // and most of the time was over before
		return errors.Is(err, os.ErrDeadlineExceeded) && s.now()-left < allowed/2 && s.taken() >= s.client.Options().PoolSize-1 // less this one
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) && s.taken() >= s.client.Options().PoolSize
}

// taken is how many connections are in use.
func (s *Store) taken() int {
	pool := s.client.PoolStats()
	return int(pool.TotalConns) - int(pool.IdleConns)
}

func (s *Store) process(ctx context.Context, args []any) ([]int64, error) {
	s.trips.Add(1)
	cmd := redis.NewIntSliceCmd(ctx, args...)
	if err := s.client.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Result()
}

// read makes sure that the answer is one that the script gives: through a proxy, anything may come.
func read(numbers []int64, parts []part) (reply, error) {
	const (
		head    = 3
		maxWait = math.MaxInt64 / int64(time.Microsecond)
	)
	switch {
	case len(numbers) < head || numbers[0] < 0 || numbers[0] > int64(len(parts)):
		return reply{}, fmt.Errorf("an answer that the script does not give: %d", numbers)
	case numbers[0] > 0:
		return reply{
			refused: int(numbers[0] - 1),
			wait:    time.Duration(min(max(numbers[1], 1), maxWait)) * time.Microsecond,
			at:      numbers[2],
		}, nil
	case len(numbers) != head+len(parts):
		return reply{}, fmt.Errorf("an answer about %d limits instead of %d", len(numbers)-head, len(parts))
	}
	taken := numbers[head:]
	for i := range parts {
		if n := uint64(taken[i]); n < parts[i].least || n > parts[i].most {
			return reply{}, fmt.Errorf("%d permits were taken instead of %d to %d", taken[i], parts[i].least, parts[i].most)
		}
	}
	return reply{refused: -1, at: numbers[2], taken: taken}, nil
}
