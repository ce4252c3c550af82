package supervise

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"modelfs/fs"
)

// Attachment is a server's side of its supervisor.
type Attachment struct {
	Connection fs.Connection
	Lock       *os.File // the backing dir's lock, taken
	control    *net.UnixConn
	standby    bool
}

// Attach takes what the supervisor hands to the process that it started. It
// must be called once, before the process starts children.
func Attach() (*Attachment, error) {
	control, err := controlConn(fdControl)
	if err != nil {
		return nil, fmt.Errorf("this command is started by \"modelfs mount\", not by hand: %w", err)
	}
	hello, err := receive(control)
	if err != nil {
		return nil, fmt.Errorf("hearing from the supervisor: %w", err)
	}
	if hello.Version != protocolVersion {
		return nil, fmt.Errorf("the supervisor speaks version %d and this server %d: restart the service instead of upgrading it",
			hello.Version, protocolVersion)
	}
	signal.Ignore(unix.SIGTERM, unix.SIGINT) // the supervisor decides when the service ends
	signal.Ignore(unix.SIGPIPE)              // whoever reads the log may go away
	a := &Attachment{control: control, standby: hello.Standby}
	a.Connection = fs.Connection{Device: inherited(fdDevice, "/dev/fuse"), Ledger: inherited(fdLedger, "ledger"), Init: hello.Init}
	a.Lock = inherited(fdLock, "lock")
	if hello.OOM != "" {
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte(hello.OOM), 0) // it may be forbidden to lower it, never to raise it
	}
	return a, nil
}

func inherited(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// Wait blocks a standby until the connection is its own; others it lets pass.
func (a *Attachment) Wait() error {
	if !a.standby {
		return nil
	}
	if err := send(a.control, message{Ready: true}); err != nil {
		return err
	}
	m, err := receive(a.control)
	if err != nil || !m.Go {
		return errors.Join(errors.New("the supervisor did not hand over the connection"), err)
	}
	return nil
}

// Ready tells the supervisor that the server answers requests.
func (a *Attachment) Ready(init []byte) error {
	return send(a.control, message{Ready: true, Init: init})
}

// Orphaned calls f when the supervisor is gone: nobody holds the mount then.
// It blocks until that, so it is run in a goroutine that ends with the process.
func (a *Attachment) Orphaned(f func()) {
	for {
		if _, err := receive(a.control); err != nil {
			f()
			return
		}
	}
}

// protectFromOOM keeps the out-of-memory killer away from the supervisor: its
// server is the one that uses memory. The server resets it for itself.
func protectFromOOM(log *slog.Logger) (restore func()) {
	const file = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte("-1000"), 0)
	}
	if err != nil {
		log.Debug("the supervisor is not protected from the out-of-memory killer", "cause", err)
		return func() {}
	}
	return func() { _ = os.WriteFile(file, before, 0) } // the process ends anyway
}
