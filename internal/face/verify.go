package face

import (
	"context"
	"math"

	"github.com/lipstream/lipstream/internal/frame"
)

// The mesh fits a face to whatever it is shown, and its presence score is no proof: on a
// head that is upside down it finds a face in the hair, with a score of 1. The detector
// scores an upright face above 0.9, and what is not upright lower, so each face is checked
// with it, in the face's own axes.
const (
	// checkSide is the side of the square that the detector looks at, in units of the
	// mesh's. From there, a face scores 0.85 or more, however it is lit or covered, and
	// hair and collars 0.7 or less. In a closer look, both may score 0.8.
	checkSide  = 2.2
	leastScore = 0.75         // of a new face; one that is followed may have less
	clearScore = 0.85         // of a face that need not be looked at again
	tilt       = 20           // degrees by which a second and a third look are turned
	agreeing   = 0.35         // most distance between eyes, nose and mouth of mesh and detector, in units of the face
	differing  = 0.5          // least distance of another face
	maxRuns    = 5            // of the mesh, to find out how far a face is turned
	settled    = math.Pi / 60 // turn between two runs after which there is no other
	maxDoubts  = 3            // checks in a row that may fail to confirm a face that is followed
)

// features returns the points of a face that the detector finds too: eyes, nose tip and
// mouth.
func (o *observation) features() [4][2]float64 {
	p := o.points
	return [4][2]float64{meanOf(p, eyeLeft), meanOf(p, eyeRight), {p[4].X, p[4].Y}, meanOf(p, []int{13, 14})}
}

// unit returns the distance of the outer corners of the eyes, or what it would be if the
// head were not turned.
func (o *observation) unit() float64 {
	return math.Max(dist(o.points[33], o.points[263]), 0.5*dist(o.points[10], o.points[152]))
}

// disagreement returns the largest distance between a feature of the mesh and of the
// detection, in units of the face.
func (o *observation) disagreement(d Detection) (worst float64) {
	for i, p := range o.features() {
		worst = math.Max(worst, math.Hypot(p[0]-d.Points[2+i][0], p[1]-d.Points[2+i][1]))
	}
	return worst / o.unit()
}

// verify looks at the face in its own axes and, unless what it sees is clear, turned a
// little and turned by 90, 180 and 270 degrees. It returns the score with which the
// detector confirms the face, 0 if it does not, and the best detection of a face in the
// same place with another direction, with a score of 0 if there is none.
func (p *people) verify(ctx context.Context, f frame.Source, o *observation) (confirmed float64, other Detection, err error) {
	at := ROIFromPoints(o.points)
	at.Size *= checkSide
	const little = tilt * math.Pi / 180
	for _, turn := range [...]float64{0, little, -little, turns[0], turns[1], turns[2]} {
		if confirmed >= clearScore {
			break
		}
		r := at
		r.Rotation += turn
		found, err := p.detector.square(ctx, f, r)
		if err != nil {
			return 0, other, err
		}
		for _, d := range found {
			switch off := o.disagreement(d); {
			case math.Abs(turn) <= little && off < agreeing:
				confirmed = max(confirmed, d.Score)
			case off > differing && d.Score > other.Score && o.matches(d):
				other = d
			}
		}
	}
	return confirmed, other, nil
}

// fit runs the mesh on a detection and verifies what it finds. If the face turns out to be
// turned in another way, fit starts again from there. It returns the face, nil if there is
// none, and the detection that it was found by.
func (p *people) fit(ctx context.Context, f frame.Source, d Detection) (*observation, Detection, error) {
	for range 2 {
		o, err := p.look(ctx, f, ROIFromDetection(d))
		if o == nil || err != nil {
			return nil, d, err
		}
		// The square from the landmarks differs a little from the detector's. A second
		// run makes the first frame agree with the following ones. On a turned face, the
		// detector's square is not turned far enough, and it takes more runs.
		for range maxRuns {
			again, err := p.look(ctx, f, ROIFromPoints(o.points))
			if err != nil {
				return nil, d, err
			}
			if again == nil {
				break
			}
			turned := math.Remainder(again.angle()-o.angle(), 2*math.Pi)
			if o = again; math.Abs(turned) < settled {
				break
			}
		}
		confirmed, other, err := p.verify(ctx, f, o)
		if err != nil {
			return nil, d, err
		}
		switch {
		case confirmed >= max(leastScore, other.Score):
			return o, d, nil
		case other.Score < leastScore:
			return nil, d, nil
		}
		d = other
	}
	return nil, d, nil
}

// recheck verifies a face that is followed, and gives up one that is not there. It reports
// whether it did.
func (p *people) recheck(ctx context.Context, f frame.Source, q *person) (bool, error) {
	confirmed, other, err := p.verify(ctx, f, q.obs)
	if err != nil {
		return false, err
	}
	q.doubts++
	if confirmed > 0 {
		q.doubts = 0
	}
	if other.Score < max(clearScore, confirmed) && q.doubts <= maxDoubts {
		return false, nil
	}
	q.gone, q.before = 1, nil
	return true, nil
}
