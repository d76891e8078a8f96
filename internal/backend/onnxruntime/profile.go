package onnxruntime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/backend/native"
	"github.com/lipstream/lipstream/internal/fault"
)

// profile is the state of a session's profiling, which the library writes to a file
// at its end.
type profile struct {
	dir   string // a temporary folder for the file; "" without profiling
	nodes []backend.Node
	ended bool
}

// startProfile enables profiling in a session to be created with options.
func (s *session) startProfile(options handle) error {
	dir, err := os.MkdirTemp("", "lipstream-profile-")
	if err != nil {
		return fault.Output.Wrap("create a folder for the profile of "+s.Model, err, "free space in the folder for temporary files")
	}
	s.profile.dir = dir
	prefix, err := native.PathChars(filepath.Join(dir, "ort"))
	if err != nil {
		return err
	}
	return s.b.api.check(s.b.api.enableProfiling(options, prefix))
}

// Nodes implements backend.Profiler. It ends the profiling.
func (s *session) Nodes() ([]backend.Node, error) {
	defer s.Acquire()()
	if s.profile.ended {
		return s.profile.nodes, nil
	}
	if s.handle == 0 {
		return nil, fault.Internal.Wrap("list the nodes of "+s.Model, native.ErrClosed)
	}
	if s.profile.dir == "" {
		return nil, fault.Internal.New("list the nodes of "+s.Model, "it was loaded without Options.Profile")
	}
	text, err := s.endProfile()
	if err == nil {
		s.profile.nodes, err = readProfile(text)
	}
	return s.profile.nodes, fault.Internal.Wrap("list the nodes of "+s.Model, err)
}

// endProfile returns what the library has written.
func (s *session) endProfile() ([]byte, error) {
	s.profile.ended = true
	defer s.dropProfile()
	a := s.b.api
	var path *byte
	if err := a.check(a.endProfiling(s.handle, s.b.allocator, &path)); err != nil {
		return nil, err
	}
	name := native.GoString(path)
	if err := a.check(a.allocatorFree(s.b.allocator, path)); err != nil {
		return nil, err
	}
	return os.ReadFile(name)
}

func (s *session) dropProfile() {
	if s.profile.dir != "" {
		_ = os.RemoveAll(s.profile.dir) // a temporary folder, which the system clears
	}
}

// readProfile returns the nodes of a profile: events in the format of Chrome's trace
// viewer, one for each node and Run, in microseconds.
func readProfile(text []byte) ([]backend.Node, error) {
	var events []struct {
		Category string  `json:"cat"`
		Name     string  `json:"name"`
		Duration float64 `json:"dur"`
		Args     struct {
			Type     string `json:"op_name"`
			Provider string `json:"provider"`
		} `json:"args"`
	}
	if err := json.Unmarshal(text, &events); err != nil {
		return nil, errors.New("the library's profile is not JSON: " + err.Error())
	}
	var list []backend.Node
	var runs []int
	place := map[string]int{}
	for _, e := range events {
		name, ok := strings.CutSuffix(e.Name, "_kernel_time")
		if e.Category != "Node" || !ok {
			continue
		}
		i, known := place[name]
		if !known {
			i, place[name] = len(list), len(list)
			list, runs = append(list, backend.Node{Name: name, Type: e.Args.Type, Provider: e.Args.Provider}), append(runs, 0)
		}
		list[i].Time += time.Duration(e.Duration * float64(time.Microsecond))
		runs[i]++
	}
	for i := range list {
		list[i].Time /= time.Duration(runs[i])
	}
	return list, nil
}
