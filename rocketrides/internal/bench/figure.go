package bench

import (
	"slices"
)

// limit is what the servers can do at the most, measured in the same round.
type limit struct {
	name  string  // what did it or, if the value is 0, why there is none
	value float64 // in the unit of what is compared with it
}

// unlimited is of what has no limit that could be measured.
var unlimited = limit{name: "none"}

// sample is one figure of one round.
type sample struct {
	name, unit string // no unit: it could not be measured
	value      float64
	against    limit
}

// Figure is what the rounds say together.
type Figure struct {
	Part   string  `json:"part"`
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Limit says what the limit is or, without LimitMedian, why there is none.
	Limit       string  `json:"limit,omitempty"`
	LimitMedian float64 `json:"limit_median,omitempty"`
	// Ratio is the median of the rounds' own ratios of the figure to the limit.
	Ratio float64 `json:"ratio,omitempty"`
}

// summarize puts the rounds of a part together. Each has the same samples in
// the same order.
func summarize(part string, rounds [][]sample) []Figure {
	figures := make([]Figure, len(rounds[0]))
	for i, first := range rounds[0] {
		var values, limits, ratios []float64
		for _, samples := range rounds {
			s := samples[i]
			values = append(values, s.value)
			limits = append(limits, s.against.value)
			ratios = append(ratios, ratio(s.value, s.against.value))
		}
		figures[i] = Figure{
			Part: part, Name: first.name, Unit: first.unit,
			Median: median(values), Min: slices.Min(values), Max: slices.Max(values),
			Limit: first.against.name, LimitMedian: median(limits), Ratio: median(ratios),
		}
	}
	return figures
}

// median is the value in the middle, or the mean of the two that are.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratio is 0 if there is no limit.
func ratio(value, limit float64) float64 {
	if limit == 0 {
		return 0
	}
	return value / limit
}
