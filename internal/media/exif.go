package media

import (
	"bytes"
	"encoding/binary"
)

// The orientation of pictures is read here, because versions of ffmpeg differ in
// the formats that they turn upright.

// exifOrientation returns the orientation in the EXIF block of a JPEG, PNG or WebP
// file, 1 to 8; 1 (upright) if there is none.
func exifOrientation(head []byte) int {
	switch {
	case bytes.HasPrefix(head, []byte("\xff\xd8")):
		for p := head[2:]; len(p) >= 4 && p[0] == 0xff; {
			marker, n := p[1], int(binary.BigEndian.Uint16(p[2:]))
			if marker == 0xda || n < 2 || len(p) < 2+n {
				break
			}
			if body, ok := bytes.CutPrefix(p[4:2+n], []byte("Exif\x00\x00")); ok && marker == 0xe1 {
				return tiffOrientation(body)
			}
			p = p[2+n:]
		}
	case bytes.HasPrefix(head, []byte("\x89PNG")):
		for p := head[min(len(head), 8):]; len(p) >= 12; {
			n := int(binary.BigEndian.Uint32(p))
			if n < 0 || n > len(p)-12 {
				break
			}
			if string(p[4:8]) == "eXIf" {
				return tiffOrientation(p[8 : 8+n])
			}
			p = p[12+n:]
		}
	case len(head) > 12 && string(head[8:12]) == "WEBP":
		for p := head[12:]; len(p) >= 8; {
			n := int(binary.LittleEndian.Uint32(p[4:]))
			if n < 0 || n > len(p)-8 {
				break
			}
			if string(p[:4]) == "EXIF" {
				return tiffOrientation(bytes.TrimPrefix(p[8:8+n], []byte("Exif\x00\x00")))
			}
			p = p[min(len(p), 8+n+n&1):]
		}
	}
	return 1
}

// tiffOrientation reads tag 0x0112 of the first directory of a TIFF block.
func tiffOrientation(b []byte) int {
	var order binary.ByteOrder = binary.LittleEndian
	switch {
	case bytes.HasPrefix(b, []byte("MM\x00*")):
		order = binary.BigEndian
	case !bytes.HasPrefix(b, []byte("II*\x00")):
		return 1
	}
	if len(b) < 8 {
		return 1
	}
	at := uint64(order.Uint32(b[4:]))
	if at+2 > uint64(len(b)) {
		return 1
	}
	count := int(order.Uint16(b[at:]))
	for dir := b[at+2:]; count > 0 && len(dir) >= 12; count, dir = count-1, dir[12:] {
		if order.Uint16(dir) != 0x0112 || order.Uint16(dir[2:]) != 3 {
			continue
		}
		if v := int(order.Uint16(dir[8:])); v >= 1 && v <= 8 {
			return v
		}
	}
	return 1
}

// orient applies an EXIF orientation to the size of the picture.
func (v *VideoInfo) orient(o int) {
	v.Orientation = max(1, o)
	if v.Orientation >= 5 {
		v.Width, v.Height = v.Height, v.Width
	}
	v.Rotation = [...]int{0, 0, 0, 180, 180, 90, 90, 270, 270}[v.Orientation]
}

// orientFilters are the filters that turn a picture upright, by EXIF orientation.
var orientFilters = [...]string{2: "hflip", 3: "hflip,vflip", 4: "vflip",
	5: "transpose=cclock_flip", 6: "transpose=clock", 7: "transpose=clock_flip", 8: "transpose=cclock"}
