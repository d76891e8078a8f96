package onnxruntime

import (
	"testing"

	"github.com/lipstream/lipstream/internal/backend"
	"github.com/lipstream/lipstream/internal/tensor"
)

// residents loads n sessions with resident tensors, which share an arena. The caller
// must close them.
func residents(t *testing.T, b *Backend, n int, a backend.Arena) []*session {
	t.Helper()
	var list []*session
	for range n {
		s, err := b.Load(t.Context(), backend.Model{Name: "square", Bytes: square()}, backend.Options{Device: "cpu", Threads: 1, Resident: true, Arena: a})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s.(*session))
	}
	return list
}

func runSquare(t *testing.T, s *session, n int) {
	t.Helper()
	if _, err := s.Run(t.Context(), map[string]*tensor.Tensor{"x": tensor.New(tensor.F32, n, 1)}); err != nil {
		t.Fatal(err)
	}
}

// checkShares checks that the figures of sessions add up to what their arena holds.
func checkShares(t *testing.T, when string, list []*session) {
	t.Helper()
	held, _, ok := list[0].arena.stats()
	if !ok {
		t.Fatal("the arena has no statistics")
	}
	var sum int64
	for i, s := range list {
		m := s.Memory()
		if m.Held < s.outside || m.Peak < m.Held {
			t.Errorf("%s: session %d holds %+v", when, i, m)
		}
		sum += m.Held - s.outside
	}
	if sum != held {
		t.Errorf("%s: the sessions hold %d bytes, their arena %d", when, sum, held)
	}
}

// TestSharedArena runs three sessions, one after the other: together they take what one
// takes, and each byte is counted once.
func TestSharedArena(t *testing.T) {
	b := open(t)
	list := residents(t, b, 3, backend.Arena{Growth: backend.GrowExact})
	for i, s := range list {
		if s.arena != list[0].arena {
			t.Fatalf("session %d has its own arena", i)
		}
		runSquare(t, s, 1000)
		checkShares(t, "after a run", list)
	}
	if held, _, _ := list[0].arena.stats(); held < 4_000_000 || held > 4_500_000 {
		t.Errorf("three sessions hold %d bytes where one needs 4 000 000", held)
	}
	// One Shrink of any number of sessions is one Shrink of the arena. The session that
	// returns the memory is not the one that took it.
	for _, s := range list {
		s.Shrink()
	}
	runSquare(t, list[1], 100)
	checkShares(t, "after Shrink", list)
	if held, _, _ := list[0].arena.stats(); held > 1_000_000 {
		t.Errorf("after Shrink the arena holds %d bytes", held)
	}
	runSquare(t, list[2], 1000)
	before, _, _ := list[0].arena.stats()
	runSquare(t, list[0], 100)
	if held, _, _ := list[0].arena.stats(); held != before {
		t.Errorf("Shrink was done twice: %d bytes, before %d", held, before)
	}
	arena := list[0].arena
	for len(list) > 1 {
		if err := list[0].Close(); err != nil {
			t.Fatal(err)
		}
		if m := list[0].Memory(); m.Held != 0 || m.Peak < 0 {
			t.Errorf("a closed session holds %+v", m)
		}
		list = list[1:]
		runSquare(t, list[0], 10)
		checkShares(t, "after a Close", list)
	}
	if err := list[0].Close(); err != nil {
		t.Fatal(err)
	}
	if len(arenas.in) != 0 || arena.users != 0 {
		t.Errorf("%d arenas are left, with %d users", len(arenas.in), arena.users)
	}
}

// TestArenaOfTwoBackends: they share the library's environment, and so the arena.
func TestArenaOfTwoBackends(t *testing.T) {
	one, two := open(t), open(t)
	first, second := residents(t, one, 1, backend.Arena{})[0], residents(t, two, 1, backend.Arena{})[0]
	if first.arena != second.arena {
		t.Error("each has an arena")
	}
	runSquare(t, second, 100)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	runSquare(t, second, 1000)
	checkShares(t, "after the Close of the first", []*session{second})
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestArenaOfFailedLoad: a Load that fails when it creates the session leaves no arena, and
// does not disturb the others that share one.
func TestArenaOfFailedLoad(t *testing.T) {
	b := open(t)
	fail := func() {
		t.Helper()
		_, err := b.Load(t.Context(), backend.Model{Name: "garbage", Bytes: []byte("no model")}, backend.Options{Device: "cpu", Resident: true})
		if err == nil {
			t.Fatal("garbage was loaded")
		}
	}
	fail()
	if len(arenas.in) != 0 {
		t.Errorf("%d arenas are left", len(arenas.in))
	}
	s := residents(t, b, 1, backend.Arena{})[0]
	fail()
	runSquare(t, s, 100)
	checkShares(t, "after a failed Load", []*session{s})
	if s.arena.users != 1 || len(s.arena.sessions) != 1 {
		t.Errorf("%d users, %d sessions", s.arena.users, len(s.arena.sessions))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestArenaOutlivesSession: a tensor keeps the arena, and a new session uses it.
func TestArenaOutlivesSession(t *testing.T) {
	b := open(t)
	s := residents(t, b, 1, backend.Arena{})[0]
	v, err := b.copy(t.Context(), "cpu", backend.InHost(tensor.FromF32([]float32{1, 2}, 2)), func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	arena := s.arena
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.copies.clear(); err != nil {
		t.Fatal(err)
	}
	if next := residents(t, b, 1, backend.Arena{})[0]; next.arena != arena {
		t.Error("the new session has another arena")
	} else if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if len(arenas.in) != 0 {
		t.Errorf("%d arenas are left", len(arenas.in))
	}
}

// TestCopiesAreCached counts the sessions that copies load.
func TestCopiesAreCached(t *testing.T) {
	b := open(t)
	loads, create := 0, b.api.createSessionFromArray
	b.api.createSessionFromArray = func(env handle, data *byte, n uintptr, options handle, out *handle) handle {
		loads++
		return create(env, data, n, options, out)
	}
	roundTrip := func(n int) {
		t.Helper()
		x := tensor.New(tensor.F32, n)
		x.F32()[n-1] = float32(n)
		v, err := b.copy(t.Context(), "cpu", backend.InHost(x), func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if _, ok := backend.HostTensor(v); ok {
			t.Fatal("it has stayed in the memory of the process")
		}
		back, err := v.Host(t.Context())
		if err != nil || back.F32()[n-1] != float32(n) {
			t.Fatalf("got %v, %v", back, err)
		}
	}
	for range 3 {
		roundTrip(5)
	}
	if loads != 1 {
		t.Errorf("six copies of one shape have loaded %d sessions", loads)
	}
	for n := range maxCopies {
		roundTrip(100 + n)
	}
	if len(b.copies.idle) != maxCopies {
		t.Errorf("%d sessions are kept", len(b.copies.idle))
	}
	loads = 0
	roundTrip(100) // still there
	roundTrip(5)   // the least recently used, which is gone
	if loads != 1 {
		t.Errorf("loaded %d sessions", loads)
	}
}

// TestArenaOfCopies: an arena that only copies use takes the settings of the next session.
func TestArenaOfCopies(t *testing.T) {
	b := open(t)
	v, err := b.copy(t.Context(), "cpu", backend.InHost(tensor.New(tensor.F32, 2)), func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	s := residents(t, b, 1, backend.Arena{Limit: 3_000_000})[0]
	defer s.Close()
	if s.arena.settings.Limit != 3_000_000 {
		t.Errorf("its arena has the settings %+v", s.arena.settings)
	}
}
