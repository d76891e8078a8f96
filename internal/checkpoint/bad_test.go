package checkpoint

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/lipstream/lipstream/internal/fault"
)

// safetensorsFile puts a header before data.
func safetensorsFile(header, data string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+data...)
}

// member is a file of a zip.
type member struct {
	name, content string
	change        func(*zip.FileHeader)
}

func zipFile(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Store}
		if m.change != nil {
			m.change(h)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// torchFile is a PyTorch file with the given pickle and one storage of 16
// bytes, data/0; more replaces or adds members.
func torchFile(t testing.TB, pickle string, more ...member) []byte {
	t.Helper()
	members := []member{{"m/data.pkl", pickle, nil}, {"m/byteorder", "little", nil}, {"m/data/0", "0123456789abcdef", nil}, {"m/version", "3\n", nil}}
next:
	for _, m := range more {
		for i := range members {
			if members[i].name == m.name {
				members[i] = m
				continue next
			}
		}
		members = append(members, m)
	}
	return zipFile(t, members...)
}

func short(s string) string { return "\x8c" + string([]byte{byte(len(s))}) + s }

// tensorPickle calls _rebuild_tensor_v2 for a view of data/0 with 4 float32;
// offset, shape and strides are pickle code.
func tensorPickle(storage, offset, shape, strides string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + "\x89NtR"
}

func storagePickle(class, key, numel string) string {
	return "(" + short("storage") + "ctorch\n" + class + "\n" + short(key) + short("cpu") + numel + "tQ"
}

const (
	n4   = "K\x04"
	vec4 = "K\x04\x85"
	one  = "K\x01\x85"
)

func stateDict(tensor string) string { return "\x80\x02}" + short("w") + tensor + "s." }

func TestRefused(t *testing.T) {
	float4 := storagePickle("FloatStorage", "0", n4)
	ok := stateDict(tensorPickle(float4, "K\x00", vec4, one))
	if f := open(t, torchFile(t, ok)); string(f.Tensor("w").Data) != "0123456789abcdef" {
		t.Fatal("the good file is not read")
	}
	tensorOf := func(storage, offset, shape, strides string) []byte {
		return torchFile(t, stateDict(tensorPickle(storage, offset, shape, strides)))
	}
	pickle := func(code string) []byte { return torchFile(t, "\x80\x02"+code) }
	whole := torchFile(t, ok)
	file := func(name string) []byte {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	st := safetensorsFile
	const a = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	const eight = "01234567"
	many := func(n int, s string) string { return strings.Repeat(s, n) }

	tests := []struct {
		name string
		data []byte
		want string // in the error's text
		hint string // in its hint
	}{
		// Not a checkpoint at all.
		{"empty", nil, "the file is empty", "again"},
		{"lfs", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"), "a Git LFS pointer of 64 bytes", "git lfs pull"},
		{"html", []byte("\n<!DOCTYPE html><html>"), "an HTML page", "again"},
		{"html bare", []byte("<HTML lang=en>"), "an HTML page", "again"},
		{"html with mark", []byte("\xef\xbb\xbf<html>"), "an HTML page", "again"},
		{"xml", []byte("<?xml version=\"1.0\"?><Error>"), "an XML text", "again"},
		{"json", []byte(`{"error":"Invalid credentials"}`), "a JSON text", "again"},
		{"other", []byte("GIF89a......"), "neither a PyTorch nor a safetensors file (12 bytes, the first are 47 49 46 38 39 61 2e 2e)", "right file"},
		{"old torch", file("old.pt"), "before version 1.6", "torch.save it again"},
		{"pickle", []byte("\x80\x04}."), "a bare Python pickle", "torch.save"},
		// The zip.
		{"cut", whole[:len(whole)/2], "the file is cut off: the zip's directory, which is at its end, is missing or broken (it has ", "compare the size"},
		{"other zip", zipFile(t, member{"a/b.txt", "x", nil}), "it is a zip, but not from PyTorch: it has no data.pkl (1 files)", ""},
		{"no folder", zipFile(t, member{"data.pkl", ok, nil}), "no data.pkl", ""},
		{"two roots", torchFile(t, ok, member{"n/data.pkl", ok, nil}), `the zip has two data.pkl: in "m/" and "n/"`, ""},
		{"twice", zipFile(t, member{"m/data.pkl", ok, nil}, member{"m/data.pkl", ok, nil}), `"m/data.pkl" is in the zip twice`, ""},
		{"script", torchFile(t, ok, member{"m/constants.pkl", "", nil}), `a TorchScript archive (it contains "m/constants.pkl")`, "plain weights"},
		{"script by torch", file("script.pt"), "a TorchScript archive (it contains ", "plain weights"},
		{"compressed", torchFile(t, ok, member{"m/data/0", "0123456789abcdef", func(h *zip.FileHeader) { h.Method = zip.Deflate }}),
			`tensor "w": "m/data/0" is compressed (method 8)`, "save it again"},
		{"compressed pickle", torchFile(t, ok, member{"m/data.pkl", ok, func(h *zip.FileHeader) { h.Method = zip.Deflate }}), `"m/data.pkl" is compressed`, "save it again"},
		{"encrypted", torchFile(t, ok, member{"m/data/0", "0123456789abcdef", func(h *zip.FileHeader) { h.Flags |= 1 }}), `"m/data/0" is encrypted`, "save it again"},
		{"big endian", torchFile(t, ok, member{"m/byteorder", "big", nil}), `its byte order is "big"`, "little-endian"},
		{"no version", zipFile(t, member{"m/data.pkl", ok, nil}), "the file version is missing", ""},
		{"checksum", bytes.Replace(whole, []byte("\x8c\x01w"), []byte("\x8c\x01v"), 1), "checksum error", "again"},
		// Code.
		{"os.system", pickle("cos\nsystem\n(X\x0b\x00\x00\x00touch pwnedtR."), "refuses to call os.system, which the file asks for", "delete the file"},
		{"eval", pickle(short("builtins") + short("eval") + "\x93."), "refuses to call builtins.eval", "delete"},
		{"module", file("module.pt"), "refuses to call torch.nn.modules.container.Sequential", "state dict"},
		{"odd name", pickle("ca\x1b[31m\nb\n."), `refuses to call "a\x1b[31m.b"`, ""},
		// The pickle's machine.
		{"pickle end", pickle("}"), "data.pkl ends in the middle", ""},
		{"long string", pickle("X\xff\xff\xff\xff"), "data.pkl ends in the middle (opcode 0x58 at byte 2)", ""},
		{"huge string", pickle("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "ends in the middle", ""},
		{"empty stack", pickle("}a"), "takes more values from the stack than it has", ""},
		{"under mark", pickle("}(0s"), "takes more values from the stack", ""},
		{"no mark", pickle("}u"), "has no mark where one is needed", ""},
		{"opcode", pickle("I1\n."), "holds an opcode that is not supported (opcode 0x49 at byte 2)", ""},
		{"protocol", torchFile(t, "\x80\x06}."), "has protocol 6, and 2 to 5 are supported", ""},
		{"no value", pickle("h\x05."), "recalls value 5, which was never stored", ""},
		{"integer", pickle("\x8a\x09123456789."), "holds an integer of more than 64 bits", ""},
		{"two values", pickle("}}."), "stops with more or less than one value", ""},
		{"odd dict", pickle("}(Nu."), "has a dict key without a value", ""},
		{"tuple key", pickle("})Ns."), "has a dict key that is neither string nor number", ""},
		{"nan key", pickle("}G\x7f\xf8\x00\x00\x00\x00\x00\x00Ns."), "has NaN as a dict key", ""},
		{"long key", pickle("}X\x01\x04\x00\x00" + many(1025, "k") + "Ns."), "has a dict key of 1025 bytes", ""},
		{"items of none", pickle("NNa."), "adds items to something that is neither list nor dict", ""},
		{"build", pickle("N}b."), "sets attributes of something that is not a dict", ""},
		{"call", pickle("K\x01)R."), "calls something that is not a function", ""},
		{"global numbers", pickle("K\x01K\x02\x93."), "has a name of a global that is not a string", ""},
		{"arguments", pickle("ctorch._utils\n_rebuild_tensor_v2\n)R."), "calls torch._utils._rebuild_tensor_v2 with the wrong arguments", ""},
		{"class called", pickle("ctorch\nFloatStorage\n)R."), "calls torch.FloatStorage with the wrong arguments", ""},
		{"persistent id", pickle("K\x01Q."), "has a persistent id that is not a storage", ""},
		{"marks", pickle(many(maxMarks+1, "(")), "nested too deeply", ""},
		{"stack", pickle(many(maxStack+1, "N")), "has too many values", ""},
		{"opcodes", pickle(many(maxOps/2, "N0")), "has more than 4194304 opcodes", ""},
		// What the pickle holds.
		{"a list", pickle("]."), "its top level is not a dict", "state dict"},
		{"nothing", pickle("}."), "it has no tensors at its top level or under state_dict or model_state_dict; the top level has nothing", ""},
		{"no tensors", pickle("}" + short("model") + "}s."), `the top level has "model"`, ""},
		{"number as name", pickle("}K\x07" + tensorPickle(float4, "K\x00", vec4, one) + "s."), "a tensor's name is 7, not a string", ""},
		{"nested", pickle("}" + short("w") + tensorPickle(float4, "K\x00", vec4, one) + "s2q\x00" + short("x") + "h\x00s."), "stops with more", ""},
		{"dict in itself", pickle("}q\x00" + short("w") + tensorPickle(float4, "K\x00", vec4, one) + "s" + short("x") + "h\x00s."), "dicts are nested deeper than 32", ""},
		{"transposed", file("transposed.pt"), `tensor "a" is not contiguous (shape [4 3], strides [1 4])`, "contiguous()"},
		{"expanded", tensorOf(float4, "K\x00", vec4, "K\x00\x85"), `tensor "w" is not contiguous`, "contiguous()"},
		{"strides missing", tensorOf(float4, "K\x00", vec4, ")"), "is not contiguous", ""},
		{"float64", file("double.pt"), `tensor "a" has the type "float64", which is not supported`, "convert"},
		{"bool", file("bool.pt"), `tensor "flag" has the type "bool", which is not supported`, "convert"},
		{"shape of strings", tensorOf(float4, "K\x00", short("x")+"\x85", one), `tensor "w": its shape or strides are not integers`, ""},
		{"negative", tensorOf(float4, "K\x00", "J\xff\xff\xff\xff\x85", one), `tensor "w": shape [-1] is impossible`, ""},
		{"overflow", tensorOf(float4, "K\x00", "(\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x402t", "(K\x01K\x01t"), `is impossible`, ""},
		{"dimensions", tensorOf(float4, "K\x00", "("+many(33, "K\x01")+"t", one), `33 dimensions, and at most 32`, ""},
		{"beyond storage", tensorOf(float4, "K\x01", vec4, one), `tensor "w": it has elements 1 to 5 of a storage of 4`, ""},
		{"before storage", tensorOf(float4, "J\xff\xff\xff\xff", vec4, one), `tensor "w": it has elements -1 to 3 of a storage of 4`, ""},
		{"far beyond", tensorOf(float4, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", vec4, one), `of a storage of 4`, ""},
		{"storage too long", tensorOf(storagePickle("FloatStorage", "0", "K\x05"), "K\x00", vec4, one), `tensor "w": data/0 has 16 bytes, but 5 elements of float32 need 20`, ""},
		{"no storage", tensorOf(storagePickle("FloatStorage", "9", n4), "K\x00", vec4, one), `tensor "w": "data/9" is missing in the zip`, ""},
		{"unknown storage", tensorOf(storagePickle("UntypedStorage", "0", n4), "K\x00", vec4, one), `refuses to call torch.UntypedStorage`, ""},
		{"storage of a function", pickle("(" + short("storage") + "ctorch\nSize\n" + short("0") + short("cpu") + "K\x04tQ."), "not a storage of a known type", ""},
		// safetensors.
		{"header too long", append([]byte("\x00\xe2\xf5\x05\x01\x00\x00\x00"), `{}`...), "the safetensors header claims 4394967552 bytes, and at most 100000000 are allowed", ""},
		{"header cut", st(a, "")[:20], "the file is cut off: the safetensors header alone needs 61 bytes (it has 20 bytes)", "compare"},
		{"data cut", st(a+"}", eight[:7]), "the file is cut off: the header describes 8 bytes of data, and there are 7 (it has 69 bytes)", "compare"},
		{"more data", st(a+"}", eight+"x"), "1 bytes follow the last tensor", ""},
		{"not JSON", st(a+"]", eight), "safetensors header: invalid character ']'", ""},
		{"two objects", st(a+"}{}", eight), "data follows the JSON object", ""},
		{"key twice", st(a+`,"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, eight), `safetensors header: the key "a" occurs twice`, ""},
		{"field twice", st(`{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, eight), `tensor "a": the key "dtype" occurs twice`, ""},
		{"field", st(`{"a":{"dtype":"F32","shape":[2],"Data_offsets":[0,8]}}`, eight), `unknown field "Data_offsets"`, ""},
		{"fields", st(`{"a":{"dtype":"F32","shape":[2]}}`, eight), "dtype, shape or the two data_offsets are missing", ""},
		{"no object", st(`{"a":5}`, eight), `tensor "a": 5 instead of an object`, ""},
		{"metadata", st(`{"__metadata__":{"a":5}}`, ""), "cannot unmarshal number", ""},
		{"only metadata", st(`{"__metadata__":{"a":"b"}}`, ""), "the file contains no tensors", ""},
		{"overlap", st(a+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, eight+"0123"), `tensor "b": its data overlaps that of another tensor`, ""},
		{"gap", st(a+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[9,13]}}`, eight+"01234"), `tensor "b": 1 unused bytes before its data`, ""},
		{"backwards", st(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,-8]}}`, eight), `tensor "a": its data ends before it begins`, ""},
		{"negative offset", st(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}`, eight), `tensor "a": its data begins before the data section`, ""},
		{"wrong size", st(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, eight), `tensor "a": shape [3] of f32 needs 12 bytes, but the file has 8 for it`, ""},
		{"huge shape", st(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, ""), `is impossible`, ""},
		{"fraction", st(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,8]}}`, eight), "cannot unmarshal number 1.5", ""},
		{"F64", st(`{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}`, eight), `tensor "a" has the type "F64", which is not supported`, "convert"},
	}
	t.Chdir(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Open(store(t, "bad.pt", tt.data))
			if err == nil {
				_ = f.Close()
				t.Fatal("was opened")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "read the checkpoint ") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if fault.KindOf(err) != fault.Input || !strings.Contains(fault.HintOf(err), tt.hint) || fault.HintOf(err) == "" {
				t.Errorf("kind %d, hint %q", fault.KindOf(err), fault.HintOf(err))
			}
		})
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("a file was made: %v %v", left, err)
	}
}

// TestVisits: dicts that contain each other double with every level, and the walk must still
// end.
func TestVisits(t *testing.T) {
	p := "\x80\x02" + tensorPickle(storagePickle("FloatStorage", "0", n4), "K\x00", vec4, one) + "q\xff0}q\x00"
	for level := range byte(30) {
		p += "0}q" + string([]byte{level + 1})
		for _, key := range []string{"a", "b", "c"} {
			p += short(key) + "h" + string([]byte{level}) + "s"
		}
	}
	_, err := Open(store(t, "bad.pt", torchFile(t, p+short("w")+"h\xffs.")))
	if err == nil || !strings.Contains(err.Error(), "more than 1048576 values in nested dicts") {
		t.Error(err)
	}
}

// TestPrefixes: every truncated file is an error.
func TestPrefixes(t *testing.T) {
	for _, data := range [][]byte{torchSample(t, "state_dict"), safetensorsSample(t)} {
		path := store(t, "cut.pt", data)
		for n := len(data) - 1; n >= 0; n-- {
			if err := os.Truncate(path, int64(n)); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err == nil {
				_ = f.Close()
				t.Fatalf("%d of %d bytes were opened", n, len(data))
			}
			if n > 8 && !strings.Contains(err.Error(), "cut off") {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}
