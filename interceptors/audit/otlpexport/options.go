package otlpexport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Options say what is sent, and how. The zero value of each field is its default, except for Cursor and ServiceName, which must be
// given.
type Options struct {
	// Cursor is the path of the file that says how far the collector has confirmed. Its folder must exist; a file of its name with
	// ".lock" at the end is made beside it. Where the file is missing, it is made, and the export begins with the first record that the
	// journal still has.
	Cursor string
	// ServiceName is the resource attribute service.name. It should be the one that the program's traces and metrics have.
	ServiceName string
	// ServiceInstance is the resource attribute service.instance.id; without it there is none.
	ServiceInstance string
	// Resource is more attributes of the resource.
	Resource []attribute.KeyValue

	// BatchRecords and BatchBytes bound one request; the defaults are 512 and 1 MiB. A record that is larger than BatchBytes is sent
	// alone. Collectors take 4 MiB unless they are told otherwise.
	BatchRecords, BatchBytes int
	// Timeout is how long the collector may take to confirm a request, connecting to it included. The default is 10 seconds.
	Timeout time.Duration
	// Every is how often the exporter looks for a new checkpoint once it has sent everything. The default is half a second, which is
	// how often a journal makes one.
	Every time.Duration

	// Trouble, if not nil, is told each time that something went wrong, on the goroutine of Run. Nothing of it ends Run.
	Trouble func(err error)
	// MeterProvider has the exporter's metrics. The default is OpenTelemetry's global one.
	MeterProvider metric.MeterProvider

	// jitter is from 0 to 1, and save writes the cursor, in place of chance and the disk in tests.
	jitter func() float64
	save   func(c *cursor, s state) error
}

func (o *Options) complete() error {
	setDefault(&o.BatchRecords, 512)
	setDefault(&o.BatchBytes, 1<<20)
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.Every, 500*time.Millisecond)
	switch {
	case o.Cursor == "":
		return errors.New("otlpexport: Options.Cursor must be given; without it nobody knows what was sent")
	case o.ServiceName == "":
		return errors.New("otlpexport: Options.ServiceName must be given")
	case o.BatchRecords < 0:
		return fmt.Errorf("otlpexport: Options.BatchRecords is %d", o.BatchRecords)
	case o.BatchBytes < 0:
		return fmt.Errorf("otlpexport: Options.BatchBytes is %d", o.BatchBytes)
	case o.Timeout < 0:
		return fmt.Errorf("otlpexport: Options.Timeout is %v", o.Timeout)
	case o.Every < 0:
		return fmt.Errorf("otlpexport: Options.Every is %v", o.Every)
	}
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.jitter == nil {
		o.jitter = rand.Float64
	}
	if o.save == nil {
		o.save = (*cursor).save
	}
	return nil
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
