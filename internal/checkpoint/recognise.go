package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
)

// Limits on what a file may ask for, far above real checkpoints (the largest
// known, a UNet, has 1246 tensors and a pickle of 190 KB).
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
	maxVisits       = 1 << 20 // values looked at for scalars
	maxHeader       = 100_000_000
	maxMembers      = 1 << 18 // files in a zip
	safetensorsPlus = 8       // bytes before the safetensors header
)

// quote makes a name from a file fit for a message.
func quote(name string) string {
	const most = 200
	if len(name) > most {
		name = name[:most] + "..."
	}
	return strconv.Quote(name)
}

// oldTorch is how files of torch.save before PyTorch 1.6 begin: a pickled
// 0x1950a86a20f9469cfc6c, without the protocol.
var oldTorch = []byte("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")

// Stray is what lies in a checkpoint's place when something else was downloaded.
type Stray string

// The strays.
const (
	LFSPointer Stray = "Git LFS pointer"
	HTMLPage   Stray = "HTML page"
	XMLText    Stray = "XML text"
	JSONText   Stray = "JSON text"
)

// Foreign tells by the first bytes of a file (512 are enough) what it is that
// is no checkpoint; "" if it looks like none of these.
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

// recognise tells the format of a file by its content, or what it is instead.
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
			"a Git LFS pointer of %d bytes, not the checkpoint that it stands for", len(data))
	case stray == HTMLPage:
		return "", refuse(again, "an HTML page, not a checkpoint: the download brought a web page, perhaps a login or an error")
	case stray == XMLText:
		return "", refuse(again, "an XML text, not a checkpoint: the download brought an error message")
	case stray == JSONText:
		return "", refuse(again, "a JSON text, not a checkpoint: an error message of the download, or a configuration")
	case len(data) > 2 && data[0] == 0x80 && bytes.HasPrefix(data[2:], oldTorch):
		return "", refuse("load it with a current PyTorch and torch.save it again",
			"a PyTorch file in the format of before version 1.6, which is not supported")
	case len(data) > 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5:
		return "", refuse("save the state dict with torch.save, or as safetensors",
			"a bare Python pickle, not a checkpoint that torch.save wrote")
	}
	return "", refuse("", "neither a PyTorch nor a safetensors file (%d bytes, the first are % x)", len(data), data[:min(len(data), 8)])
}

// looksLikeSafetensors: a header length that is no text, then a JSON object.
func looksLikeSafetensors(data []byte) bool {
	return len(data) > safetensorsPlus && data[safetensorsPlus] == '{' &&
		binary.LittleEndian.Uint64(data) < 1<<48
}

// cutOff is the error for a file that ends too early.
func cutOff(size int, what string) error {
	return refuse("download it again and compare the size with the source's",
		"%s", fmt.Sprintf("the file is cut off: %s (it has %d bytes)", what, size))
}
