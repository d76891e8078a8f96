package queue

import (
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lipstream/lipstream/internal/fault"
)

// embed starts NATS with JetStream in this process.
func embed(o Options) (*server.Server, error) {
	c := &server.Options{
		ServerName: "lipstream", JetStream: true, StoreDir: o.Dir, NoSigs: true, NoLog: true, NoSystemAccount: true,
		DontListen: o.Listen == "", SyncInterval: 10 * time.Second, Authorization: o.Token, DisableJetStreamBanner: true,
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err == nil {
			c.Port, err = strconv.Atoi(port)
		}
		if err != nil {
			return nil, fault.Usage.Wrap("listen for workers on "+o.Listen, err, "write host:port, such as 0.0.0.0:4222")
		}
		if c.Host = host; c.Port == 0 {
			c.Port = server.RANDOM_PORT
		}
	}
	s, err := server.NewServer(c)
	if err != nil {
		return nil, fault.Internal.Wrap("start the queue in "+o.Dir, err)
	}
	// Start does not report why it could not listen.
	go s.Start()
	if !s.ReadyForConnections(2 * connecting) {
		s.Shutdown()
		s.WaitForShutdown()
		hint := "check the free space on the disk"
		if o.Listen != "" {
			hint = "check whether another program uses " + o.Listen
		}
		return nil, fault.Output.New("start the queue in "+o.Dir, "it does not start", hint)
	}
	return s, nil
}
