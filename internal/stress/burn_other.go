//go:build !linux

package main

func comeFirst(bool) {}
