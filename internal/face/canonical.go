package face

import (
	_ "embed" // the model files
	"encoding/binary"
	"math"
	"slices"
)

// MediaPipe's face geometry: the mean face, its triangles, and the points that show
// the head's pose best. The file is upstream's own, byte for byte.
//
//go:embed models/geometry_pipeline_metadata_landmarks.binarypb
var geometryFile []byte

// MeshPoints is the number of points of the mesh without irises.
const MeshPoints = 468

// Canonical is MediaPipe's mean face: 468 vertices in centimetres, x to the
// image's right, y up, z towards the camera.
//
// Triangles is the tessellation of the 468-point mesh: 898 triangles that
// cover the whole face without a hole, mouth and eyes included. All have the
// same orientation.
//
// poseBasis lists the points that show the head's pose.
var Canonical, Triangles, poseBasis = loadGeometry(geometryFile)

// poseWeight is the weight of a point in the head's pose: more where it moves little
// with the expression.
type poseWeight struct {
	index  int
	weight float64
}

func loadGeometry(file []byte) (canonical [MeshPoints]Point, triangles [][3]uint16, basis []poseWeight) {
	var floats []float32
	var indices []uint64
	protoFields(file, func(field int, _ uint64, sub []byte) {
		switch field {
		case 1: // canonical_mesh: 3 vertex_buffer (x y z u v), 4 index_buffer
			protoFields(sub, func(field int, v uint64, _ []byte) {
				switch field {
				case 3:
					floats = append(floats, math.Float32frombits(uint32(v)))
				case 4:
					indices = append(indices, v)
				}
			})
		case 2: // procrustes_landmark_basis: 1 landmark_id, 2 weight
			var b poseWeight
			protoFields(sub, func(field int, v uint64, _ []byte) {
				switch field {
				case 1:
					b.index = int(v)
				case 2:
					b.weight = float64(math.Float32frombits(uint32(v)))
				}
			})
			basis = append(basis, b)
		}
	})
	for i := range canonical {
		v := floats[5*i : 5*i+3]
		canonical[i] = Point{float64(v[0]), float64(v[1]), float64(v[2])}
	}
	for t := range slices.Chunk(indices, 3) {
		triangles = append(triangles, [3]uint16{uint16(t[0]), uint16(t[1]), uint16(t[2])})
	}
	return canonical, triangles, basis
}

// protoFields calls f for each field of a protobuf message that holds nothing
// but varints, 32-bit values and messages. It panics if the message is malformed,
// because the file is embedded.
func protoFields(b []byte, f func(field int, v uint64, sub []byte)) {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		b = b[n:]
		var v uint64
		var sub []byte
		switch key & 7 {
		case 0:
			v, n = binary.Uvarint(b)
			b = b[n:]
		case 2:
			v, n = binary.Uvarint(b)
			sub, b = b[n:n+int(v)], b[n+int(v):]
		case 5:
			v, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		default:
			panic("face: geometry file: unexpected wire type")
		}
		f(int(key>>3), v, sub)
	}
}
