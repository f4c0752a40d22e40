// Package rides is Rocket Rides, which lets people book jetpack rides: what a
// ride is, how it is stored, the api that takes bookings and the simulator that
// makes them.
//
// Each ride is written in one transaction with the log record that tells of it,
// so whoever reads the log learns of every ride that exists, and of no other.
// Distances are decimals that keep every digit on their whole way: nothing in
// this package turns one into a floating-point number.
package rides
