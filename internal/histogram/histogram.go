// Package histogram says what the project's histograms look like.
package histogram

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Classic buckets. Seconds end at the bound of a call, Ages far beyond.
var (
	Seconds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	Ages    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}
	Sizes   = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}
)

// Options are those of a histogram with native buckets, of 10 % each, for whoever
// scrapes them, and classic ones for everyone else.
func Options(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}
}
