//go:build unix && !linux

package child

var platformTie tie = tieByPipe
