package main

import (
	"context"
	"errors"
	"net"
)

// sdNotify tells the service manager that started this process about it
// (sd_notify(3)): one datagram to $NOTIFY_SOCKET. Without a manager it does
// nothing.
func sdNotify(ctx context.Context, socket, state string) error {
	if socket == "" {
		return nil
	}
	if socket[0] == '@' { // an abstract address
		socket = "\x00" + socket[1:]
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unixgram", socket)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
