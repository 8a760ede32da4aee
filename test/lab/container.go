package main

func containerMain(args []string) error { return nil }
