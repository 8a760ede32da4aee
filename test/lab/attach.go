package main

func attachMain(args []string) int { return 0 }
