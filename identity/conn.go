package identity

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// conn is a connection after its handshake. The syscall.Conn that gRPC's credentials offer stays reachable: channelz reads
// socket options through it.
type conn struct {
	net.Conn

	local net.Addr
}

func (c *conn) LocalAddr() net.Addr { return c.local }

func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// calleeConn ends with the SVID of the callee behind it: a client's calls do not see their connection, so the check that a
// server makes on each call is made here on each write.
type calleeConn struct {
	conn

	callee *Caller
}

func (c *calleeConn) Write(p []byte) (int, error) {
	if c.callee.Expired(time.Now()) {
		err := fmt.Errorf("identity: the SVID of callee %s on this connection has expired", c.callee.id)
		return 0, errors.Join(err, c.Close())
	}
	return c.conn.Write(p)
}
