// Package authority is a SPIFFE authority inside a Go program, for development and tests: it mints X509-SVIDs and JWT-SVIDs for
// one trust domain, rotates them, federates with other authorities, and serves the SPIFFE Workload API over Unix sockets.
//
// It is never for production: its keys are in memory, it attests a workload by the socket that it was given, and there is one
// of it. SPIRE is what production wants. Programs cannot tell the two apart: they read whichever Workload API
// SPIFFE_ENDPOINT_SOCKET names, with go-spiffe's own client.
package authority
