package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsVariable makes the test binary a NATS server: its value is the JSON of a natsNode.
const natsVariable = "LIPSTREAM_E2E_NATS"

// natsNode is a server of a NATS cluster, in a process of its own.
type natsNode struct {
	Name            string
	Dir             string
	Port, RoutePort int
	Routes          []int // RoutePort of all nodes
	cmd             *exec.Cmd
	t               *testing.T
}

// runNATS runs a node until it is killed.
func runNATS(text string) int {
	var n natsNode
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := &server.Options{ServerName: n.Name, Host: "127.0.0.1", Port: n.Port, JetStream: true, StoreDir: n.Dir, LogFile: filepath.Join(n.Dir, "log"), NoSigs: true,
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: n.RoutePort}}
	for _, port := range n.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	s, err := server.NewServer(o)
	if err == nil {
		err = os.MkdirAll(n.Dir, 0o700)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.ConfigureLogger() // with a log, the process ends when a port is in use
	s.Start()
	for !s.ReadyForConnections(time.Minute) {
	}
	fmt.Println("ready")
	s.WaitForShutdown()
	return 0
}
