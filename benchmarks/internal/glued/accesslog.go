package glued

import (
	"context"
	"log/slog"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
)

// accessLog is a line a call, when it has ended: the same number as grpcguard's records.
type accessLog struct{ logger logging.Logger }

func newAccessLog(l *slog.Logger) accessLog {
	return accessLog{logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		l.Log(ctx, slog.Level(level), msg, fields...)
	})}
}

func (a accessLog) options() []logging.Option {
	return []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithFieldsFromContext(func(ctx context.Context) logging.Fields { return logging.Fields{"caller", callerOf(ctx)} }),
	}
}

func (a accessLog) unaryServer() grpc.UnaryServerInterceptor {
	return logging.UnaryServerInterceptor(a.logger, a.options()...)
}

func (a accessLog) streamServer() grpc.StreamServerInterceptor {
	return logging.StreamServerInterceptor(a.logger, a.options()...)
}

// unaryClient logs good calls too, at the level that a server does.
func (a accessLog) unaryClient() grpc.UnaryClientInterceptor {
	return logging.UnaryClientInterceptor(a.logger, logging.WithLogOnEvents(logging.FinishCall), logging.WithLevels(logging.DefaultServerCodeToLevel))
}
