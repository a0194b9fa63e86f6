package interceptors

import (
	"github.com/grpcguard/grpcguard/interceptors/audit"
	"github.com/grpcguard/grpcguard/interceptors/internal/chain"
)

// transactionStage writes the intent of each transaction before its handler sees it.
type transactionStage struct{}

func (*transactionStage) conclude(*chain.Call, *audit.Record) bool { return false }
