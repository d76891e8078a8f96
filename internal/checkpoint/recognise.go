package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
)

// Limits for the content of files, far above real checkpoints (the largest known, a
// UNet, has 1246 tensors and a pickle of 190 KB).
const (
	maxTensors      = 1 << 17
	maxDims         = 32
	maxVolume       = 1 << 48 // elements of one tensor
	maxPickle       = 64 << 20
	maxOps          = 1 << 22 // opcodes of a pickle
	maxStack        = 1 << 20 // values on the pickle's stack
	maxMemo         = 1 << 20 // values in the pickle's memo
	maxMarks        = 1 << 10 // open marks: how deep containers nest
	maxKey          = 1 << 10 // bytes of a dict's key
	maxDepth        = 32      // of nested dicts with scalars
	maxVisits       = 1 << 20 // values visited to find scalars
	maxHeader       = 100_000_000
	maxMembers      = 1 << 18 // files in a zip
	safetensorsPlus = 8       // bytes before the safetensors header
)

// quote returns a name from a file, quoted and shortened for messages.
func quote(name string) string {
	const most = 200
	if len(name) > most {
		name = name[:most] + "..."
	}
	return strconv.Quote(name)
}

// oldTorch is the beginning of files of torch.save before PyTorch 1.6, after the
// protocol: a pickled 0x1950a86a20f9469cfc6c.
var oldTorch = []byte("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")

// Stray is a kind of file that is often downloaded instead of a checkpoint.
type Stray string

// The kinds of Stray.
const (
	LFSPointer Stray = "a Git LFS pointer"
	HTMLPage   Stray = "an HTML page"
	XMLText    Stray = "an XML text"
	JSONText   Stray = "a JSON text"
)

// Foreign recognises a Stray by the first bytes of a file, of which 512 are enough. It
// returns "" for other files.
func Foreign(head []byte) Stray {
	text := bytes.TrimPrefix(head[:min(len(head), 512)], []byte("\xef\xbb\xbf"))
	text = bytes.ToLower(bytes.TrimLeft(text, " \t\r\n"))
	for _, known := range []struct {
		prefix string
		stray  Stray
	}{
		{"version https://git-lfs.github.com/spec/", LFSPointer}, {"<!doctype html", HTMLPage}, {"<html", HTMLPage},
		{"<?xml", XMLText}, {"{", JSONText}, {"[", JSONText},
	} {
		if bytes.HasPrefix(text, []byte(known.prefix)) {
			return known.stray
		}
	}
	return ""
}

// recognise returns the format of a file by its content, or an error that says what
// the file is instead.
func recognise(data []byte) (format string, err error) {
	const again = "download the checkpoint itself again"
	stray := Foreign(data)
	switch {
	case len(data) == 0:
		return "", refuse(again, "the file is empty")
	case bytes.HasPrefix(data, []byte("PK\x03\x04")), bytes.HasPrefix(data, []byte("PK\x05\x06")):
		return formatTorch, nil
	case looksLikeSafetensors(data):
		return formatSafetensors, nil
	case stray == LFSPointer:
		return "", refuse("run git lfs pull, or download the file from its web page",
			"it is a Git LFS pointer of %d bytes, not the checkpoint itself", len(data))
	case stray != "":
		return "", refuse(again, "it is %s, not a checkpoint: perhaps the login or error page of a server, or a configuration", stray)
	case len(data) > 2 && data[0] == 0x80 && bytes.HasPrefix(data[2:], oldTorch):
		return "", refuse("load it with a current PyTorch and torch.save it again",
			"it is a PyTorch file in the format before version 1.6, which is not supported")
	case len(data) > 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5:
		return "", refuse("save the state dict with torch.save, or as safetensors",
			"it is a bare Python pickle, not a checkpoint of torch.save")
	}
	return "", refuse("", "it is neither a PyTorch nor a safetensors file (%d bytes, the first are % x)", len(data), data[:min(len(data), 8)])
}

// looksLikeSafetensors reports whether data begins with a plausible length of a header
// and a JSON object.
func looksLikeSafetensors(data []byte) bool {
	return len(data) > safetensorsPlus && data[safetensorsPlus] == '{' &&
		binary.LittleEndian.Uint64(data) < 1<<48
}

// cutOff returns the error for a file that ends too early.
func cutOff(size int, what string) error {
	return refuse("download it again and compare the size with that of the source",
		"%s", fmt.Sprintf("the file is cut off: %s (it has %d bytes)", what, size))
}
