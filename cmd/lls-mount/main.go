// Command lls-mount does the part of a mount that walks a container's paths.
// Only the agent starts it.
package main

func main() {}
