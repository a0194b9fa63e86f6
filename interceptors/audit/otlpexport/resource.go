package otlpexport

import (
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
)

// resourceOf says whose the records are. An index is of one journal, so the journal's name is there too.
func resourceOf(origin string, opts *Options) *resource.Resource {
	given := append([]attribute.KeyValue(nil), opts.Resource...)
	given = append(given, attribute.String("service.name", opts.ServiceName), attribute.String("grpcguard.journal", origin))
	if opts.ServiceInstance != "" {
		given = append(given, attribute.String("service.instance.id", opts.ServiceInstance))
	}
	set := attribute.NewSet(given...) // of several with one key it keeps the last
	r := &resource.Resource{}
	for _, kv := range set.ToSlice() {
		r.Attributes = append(r.Attributes, &common.KeyValue{Key: string(kv.Key), Value: value(kv.Value)})
	}
	return r
}

func value(v attribute.Value) *common.AnyValue {
	switch v.Type() {
	case attribute.BOOL:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v.AsBool()}}
	case attribute.INT64:
		return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v.AsInt64()}}
	case attribute.FLOAT64:
		return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: v.AsFloat64()}}
	case attribute.STRING:
		return text(v.AsString())
	case attribute.STRINGSLICE:
		list := &common.ArrayValue{}
		for _, s := range v.AsStringSlice() {
			list.Values = append(list.Values, text(s))
		}
		return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: list}}
	default:
		return text(fmt.Sprint(v.AsInterface()))
	}
}
