package restorer

import (
	"github.com/lipstream/lipstream/internal/face"
	"github.com/lipstream/lipstream/internal/frame"
)

// template has the five points of a face in FFHQ, at 512×512 pixels: the eyes, the tip of
// the nose and the corners of the mouth, left ones first. facexlib aligns faces for GFPGAN
// with it (face_template in facexlib/utils/face_restoration_helper.py, MIT licence).
var template = [5][2]float64{
	{192.98138, 239.94708}, {318.90277, 240.1936}, {256.63416, 314.01935}, {201.26117, 371.41043}, {313.08905, 371.15118},
}

// landmarks has the points of the mesh whose mean is each point of the template: corners and
// lids of the eyes, the tip of the nose, the corners of the mouth.
var landmarks = [5][]int{{33, 133, 159, 145}, {362, 263, 386, 374}, {1}, {61}, {291}}

// align returns the similarity from the frame to the template that fits the points with the
// least squares. facexlib estimates the same by OpenCV's RANSAC.
func align(points []face.Point) (m frame.Affine, ok bool) {
	var from [len(landmarks)][2]float64
	for i, mesh := range landmarks {
		for _, k := range mesh {
			from[i][0] += points[k].X / float64(len(mesh))
			from[i][1] += points[k].Y / float64(len(mesh))
		}
	}
	return face.FitSimilarity(from[:], template[:])
}
