// Package identity gives both ends of a gRPC connection a verified SPIFFE identity.
//
// [NewServerCredentials] and [NewClientCredentials] are gRPC transport credentials over X509-SVIDs. They speak TLS 1.3 only,
// verify the other end on every handshake (a resumed session is verified like any other), check an SVID against the bundle
// of its own trust domain and against nothing else, and keep credentials.TLSInfo as the connection's AuthInfo, so that code
// which reads identities from there goes on to work. Where the SVIDs come from is the business of the [Source]: in
// production a workloadapi.X509Source, which reads the Workload API named by SPIFFE_ENDPOINT_SOCKET.
//
// A server's handlers learn who calls from [FromContext]. Nothing in this package knows of policy: it says who somebody is,
// never what they may do, with one exception: a client names the callee it is willing to talk to.
package identity
