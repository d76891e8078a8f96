package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lipstream/lipstream/internal/fault"
)

// The file, all numbers little-endian:
//
//	header   magic [8]byte, version uint32, length uint32, crc uint32, identity [length]byte (JSON)
//	record   length uint32, crc uint32, body [length]byte
//	body     first int64, frames, fresh, bytes of plan, latents, width uint32, plan, latents
//
// Latents are stored as float16 (width 2) if all of them have the same value in it, else
// as float32 (width 4). Their bytes are sorted into planes, the lowest bytes of all numbers
// first, and each plane is a zstd frame.
//
// A crc is the CRC-32C of its header or record without itself, continued from the previous
// crc. So a record is only valid in its place, and data of an older run after the end
// never counts as a record.
const (
	magic       = "LIPJRNL\n"
	version     = 2
	headerBytes = 20
	frameBytes  = 8
	bodyBytes   = 28 // of a body without plan and latents

	maxIdentity = 1 << 20   // bytes
	maxRecord   = 256 << 20 // bytes of a body before compression
	maxBody     = maxRecord + maxRecord/256
)

var (
	order      = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Record is one finished window.
type Record struct {
	First   int64     // index of the window's first frame, in the frames of the job, from 0
	Frames  int       // frames of the window, including padding
	Fresh   int       // frames that were not in an earlier window, 0 to Frames
	Plan    []byte    // JSON of the memory plan in force; may be empty
	Latents []float32 // of all frames, in the engine's order; stored exactly
}

// bodyHead is the beginning of a body. Plan and Latents are lengths, Width is the size of
// a number in bytes.
type bodyHead struct {
	First                               int64
	Frames, Fresh, Plan, Latents, Width uint32
}

// check returns why a record is invalid, or "".
func (r *Record) check() string {
	switch {
	case r.First < 0:
		return fmt.Sprintf("the first frame is %d", r.First)
	case r.Frames < 0 || r.Frames > math.MaxInt32:
		return fmt.Sprintf("it has %d frames", r.Frames)
	case r.Fresh < 0 || r.Fresh > r.Frames:
		return fmt.Sprintf("%d of its %d frames are fresh", r.Fresh, r.Frames)
	case len(r.Plan) > maxRecord || len(r.Latents) > maxRecord/4 || bodyBytes+len(r.Plan)+4*len(r.Latents) > maxRecord:
		return fmt.Sprintf("%d numbers and a plan of %d bytes are more than %d MiB", len(r.Latents), len(r.Plan), maxRecord>>20)
	case len(r.Plan) > 0 && !json.Valid(r.Plan):
		return "its plan is not JSON"
	}
	return ""
}

// encode returns the bytes of a record that follows one with the crc before, in buf if it
// is large enough, and the crc of the record.
func (r *Record) encode(buf []byte, before uint32) ([]byte, uint32) {
	b := append(buf[:0], make([]byte, frameBytes)...)
	planes, width := split(r.Latents)
	// This type can always be appended.
	b, _ = binary.Append(b, order, bodyHead{r.First, uint32(r.Frames), uint32(r.Fresh), uint32(len(r.Plan)), uint32(len(r.Latents)), uint32(width)})
	b = append(b, r.Plan...)
	for plane := range slices.Chunk(planes, max(1, len(r.Latents))) {
		b = compressor().EncodeAll(plane, b)
	}
	order.PutUint32(b, uint32(len(b)-frameBytes))
	crc := recordCRC(before, b[:4], b[frameBytes:])
	order.PutUint32(b[4:], crc)
	return b, crc
}

func recordCRC(before uint32, length, body []byte) uint32 {
	return crc32.Update(crc32.Update(before, castagnoli, length), castagnoli, body)
}

// decode decodes a body. The record does not share memory with it.
func decode(body []byte) (Record, bool) {
	var h bodyHead
	if _, err := binary.Decode(body, order, &h); err != nil {
		return Record{}, false
	}
	plan, size := int64(h.Plan), int64(h.Latents)*int64(h.Width)
	if bodyBytes+plan > int64(len(body)) || size > maxRecord {
		return Record{}, false
	}
	planes, err := decompressor().DecodeAll(body[bodyBytes+plan:], nil)
	if err != nil || int64(len(planes)) != size {
		return Record{}, false
	}
	r := Record{
		First: h.First, Frames: int(h.Frames), Fresh: int(h.Fresh),
		Plan: bytes.Clone(body[bodyBytes : bodyBytes+plan]),
	}
	r.Latents, err = join(planes, int(h.Width))
	return r, err == nil && r.check() == ""
}

// Identity is what the result of a job depends on: settings, versions, sizes, times and
// hashes of inputs. Messages list the names whose values differ.
type Identity map[string]string

// encode returns the identity as JSON, with the same bytes for the same values.
func (id Identity) encode() ([]byte, error) {
	exact := make(map[string]string, len(id))
	for name, value := range id {
		exact[exactly(name)] = exactly(value)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b) // sorts the names
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(exact); err != nil {
		return nil, err
	}
	if b.Len() > maxIdentity {
		return nil, fmt.Errorf("the identity has %d bytes, more than %d", b.Len(), maxIdentity)
	}
	return b.Bytes(), nil
}

// exactly quotes texts that are not UTF-8, such as paths, because JSON would make some of
// them equal. It also quotes texts that begin with a quotation mark, so that different
// texts stay different.
func exactly(s string) string {
	if !utf8.ValidString(s) || strings.HasPrefix(s, `"`) {
		return strconv.Quote(s)
	}
	return s
}

// differing returns the names whose values differ between two encoded identities.
func differing(was, now []byte) ([]string, error) {
	var a, b map[string]string
	if err := json.Unmarshal(was, &a); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(now, &b); err != nil {
		return nil, err
	}
	var names []string
	for name, value := range b {
		if old, ok := a[name]; !ok || old != value {
			names = append(names, name)
		}
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Mark returns a text that changes when a file is replaced or written to: its
// path, size and time of modification.
func Mark(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", fault.Input.Wrap("look at "+path, fault.WithoutPath(err))
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Input.Wrap("look at "+path, err)
	}
	return fmt.Sprint(abs, st.Size(), st.ModTime().UTC()), nil
}

// encodeHeader returns the bytes of a header and its crc.
func encodeHeader(identity []byte) ([]byte, uint32) {
	b := []byte(magic)
	b = order.AppendUint32(b, version)
	b = order.AppendUint32(b, uint32(len(identity)))
	crc := recordCRC(0, b, identity)
	b = order.AppendUint32(b, crc)
	return append(b, identity...), crc
}

// The errors of a scanner, in addition to those of reading.
var (
	errDamaged = errors.New("damaged")
	errVersion = errors.New("another format")
)

// scanner reads the records of an untrusted journal.
type scanner struct {
	r    *bufio.Reader
	left int64  // bytes of the file that are not read yet
	end  int64  // offset after the last valid record
	crc  uint32 // of the last valid record
	buf  []byte // of the last body, for reuse
}

func newScanner(r io.Reader, size int64) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, 64<<10), left: size}
}

// header reads the header and returns the identity. The error is errDamaged, errVersion,
// or an error of reading.
func (s *scanner) header() ([]byte, error) {
	var h [headerBytes]byte
	if err := s.read(h[:]); err != nil {
		return nil, err
	}
	n := order.Uint32(h[12:])
	switch {
	case string(h[:8]) != magic:
		return nil, errDamaged
	case order.Uint32(h[8:]) != version:
		return nil, errVersion
	case n > maxIdentity:
		return nil, errDamaged
	}
	identity, err := s.body(n)
	if err != nil {
		return nil, err
	}
	crc := recordCRC(0, h[:16], identity)
	if crc != order.Uint32(h[16:]) {
		return nil, errDamaged
	}
	s.crc, s.end = crc, headerBytes+int64(n)
	return bytes.Clone(identity), nil
}

// next reads a record. The error is io.EOF at the end, errDamaged at an incomplete or
// damaged record, or an error of reading. There are no records after an error.
func (s *scanner) next() (Record, error) {
	if s.left == 0 {
		return Record{}, io.EOF
	}
	var h [frameBytes]byte
	if err := s.read(h[:]); err != nil {
		return Record{}, err
	}
	n := order.Uint32(h[:])
	if n > maxBody {
		return Record{}, errDamaged
	}
	body, err := s.body(n)
	if err != nil {
		return Record{}, err
	}
	crc := recordCRC(s.crc, h[:4], body)
	if crc != order.Uint32(h[4:]) {
		return Record{}, errDamaged
	}
	r, ok := decode(body)
	if !ok {
		return Record{}, errDamaged
	}
	s.crc, s.end = crc, s.end+frameBytes+int64(n)
	return r, nil
}

// body reads n bytes, which are valid until the next call.
func (s *scanner) body(n uint32) ([]byte, error) {
	if int64(n) > s.left { // before anything is allocated
		return nil, errDamaged
	}
	s.buf = slices.Grow(s.buf[:0], int(n))[:n]
	return s.buf, s.read(s.buf)
}

func (s *scanner) read(b []byte) error {
	if int64(len(b)) > s.left {
		return errDamaged
	}
	n, err := io.ReadFull(s.r, b)
	s.left -= int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged // the file is shorter than it was
	}
	return err
}
