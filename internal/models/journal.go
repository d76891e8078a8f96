package models

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/lipstream/lipstream/internal/disk"
	"github.com/lipstream/lipstream/internal/fault"
)

// The journal beside a part file records how much of it is on the disk: one line of
// JSON with the journalHead, then one for each finished section of the file: its header
// and every tensor.

// journalHead describes the result that a part file belongs to.
type journalHead struct {
	Layout string   `json:"layout"`
	Source string   `json:"source_sha256"`
	DType  string   `json:"dtype"`
	Wide   []string `json:"wide,omitempty"` // tensors that stay f32
}

// stretch is a finished section of the part file. It begins where the one before it
// ends.
type stretch struct {
	Tensor string `json:"tensor"` // "" is the header
	End    int64  `json:"end"`    // offset in the file
	CRC    uint32 `json:"crc32c"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// partWriter writes a part file and its journal. It does not write again what an
// earlier run has finished.
type partWriter struct {
	p       *preparation
	head    journalHead
	file    *os.File
	journal *os.File
	out     io.Writer // file, or a test's writer to it

	skip   int64 // end of what an earlier run has written
	pos    int64
	crc    uint32 // of the current section
	name   string
	done   []stretch // synced
	synced int64     // their end
	recent []stretch // written, but not synced
}

// openPart opens the part file and determines how much of it can be kept.
func openPart(ctx context.Context, p *preparation, head journalHead) (*partWriter, error) {
	w := &partWriter{p: p, head: head}
	var err error
	if w.file, err = os.OpenFile(p.out.part, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, p.outputFault(err)
	}
	w.out = p.wrap(w.file)
	if was, done := readJournal(p.out.state, head); len(done) > 0 {
		if done, err = w.verify(ctx, done); err != nil {
			w.close()
			return nil, err
		}
		if len(done) > 0 {
			w.head, w.done, w.skip = was, done, done[len(done)-1].End
		}
	}
	if err = w.rewriteJournal(); err == nil {
		err = w.file.Truncate(w.skip)
	}
	if err == nil {
		_, err = w.file.Seek(w.skip, io.SeekStart)
	}
	if err != nil {
		w.close()
		return nil, p.outputFault(err)
	}
	return w, nil
}

// readJournal reads a journal, if it belongs to the same result. Its last line may be
// incomplete.
func readJournal(path string, want journalHead) (head journalHead, done []stretch) {
	f, err := os.Open(path)
	if err != nil {
		return head, nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil {
		return head, nil
	}
	if head.Layout != want.Layout || head.Source != want.Source || head.DType != want.DType {
		return head, nil
	}
	end := int64(0)
	for lines.Scan() {
		var s stretch
		if json.Unmarshal(lines.Bytes(), &s) != nil || s.End <= end && s.Tensor == "" || s.End < end {
			break
		}
		end = s.End
		done = append(done, s)
	}
	return head, done
}

// verify reads the part file and returns the sections, from the first on, that agree
// with the journal.
func (w *partWriter) verify(ctx context.Context, done []stretch) ([]stretch, error) {
	begin, buf := int64(0), make([]byte, 1<<20)
	for i, s := range done {
		crc := crc32.New(castagnoli)
		n, err := io.CopyBuffer(crc, disk.Reader(ctx, io.NewSectionReader(w.file, begin, s.End-begin)), buf)
		if err != nil && ctx.Err() != nil {
			return nil, fault.Cancelled.Wrap(opPrepare+" "+w.p.path, err)
		}
		if err != nil {
			return nil, w.p.outputFault(err)
		}
		if n != s.End-begin || crc.Sum32() != s.CRC {
			return done[:i], nil
		}
		begin = s.End
	}
	return done, nil
}

// rewriteJournal replaces the journal by one of the sections that are kept.
func (w *partWriter) rewriteJournal() (err error) {
	if w.journal, err = os.Create(w.p.out.state); err != nil {
		return err
	}
	recent := w.done
	w.done = nil
	return w.note(w.head, recent)
}

// note adds lines to the journal and syncs it.
func (w *partWriter) note(head any, stretches []stretch) error {
	b := bufio.NewWriter(w.journal)
	enc := json.NewEncoder(b)
	var err error
	if head != nil {
		err = enc.Encode(head)
	}
	for _, s := range stretches {
		err = errors.Join(err, enc.Encode(s))
	}
	if err = errors.Join(err, b.Flush()); err == nil {
		err = w.journal.Sync()
	}
	w.done = append(w.done, stretches...)
	for _, s := range stretches {
		w.synced = s.End
	}
	return err
}

// Write implements io.Writer for the whole file from its beginning.
func (w *partWriter) Write(b []byte) (int, error) {
	old := int(min(int64(len(b)), max(0, w.skip-w.pos)))
	n, err := w.out.Write(b[old:])
	w.crc = crc32.Update(w.crc, castagnoli, b[old:old+n])
	w.pos += int64(old + n)
	return old + n, err
}

// begin starts a tensor; the first one ends the header.
func (w *partWriter) begin(name string) {
	if w.name == "" {
		w.noteWritten()
	}
	w.name = name
}

// end completes the tensor.
func (w *partWriter) end() error {
	w.noteWritten()
	if len(w.recent) == 0 || w.pos-w.synced < w.p.piece {
		return nil
	}
	return w.sync()
}

func (w *partWriter) noteWritten() {
	if w.pos > w.skip { // else it is in the journal
		w.recent = append(w.recent, stretch{w.name, w.pos, w.crc})
	}
	w.crc = 0
}

// sync syncs the part file, and then records that in the journal.
func (w *partWriter) sync() error {
	if err := w.file.Sync(); err != nil {
		return err
	}
	err := w.note(nil, w.recent)
	w.recent = nil
	if err == nil {
		w.p.synced()
	}
	return err
}

// finish verifies the whole file by reading it again.
func (w *partWriter) finish(ctx context.Context) error {
	if err := w.sync(); err != nil {
		return err
	}
	good, err := w.verify(ctx, w.done)
	if err != nil {
		return err
	}
	if len(good) < len(w.done) || w.synced != w.pos {
		w.p.out.discard()
		return fmt.Errorf("tensor %q differs after it was written", w.done[min(len(good), len(w.done)-1)].Tensor)
	}
	return nil
}

func (w *partWriter) close() {
	_ = w.file.Close() // it is synced, or the next run verifies it
	if w.journal != nil {
		_ = w.journal.Close()
	}
}
