// Lls is what users of a container type: it asks the agent on the host for volumes and snapshots, through the socket
// that the agent gave this container.
package main

import (
	"context"
	"os"
	"path/filepath"

	"lls/agent/api"
	"lls/agent/api/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	if filepath.Base(os.Args[0]) == "mount.lls" {
		os.Exit(mountHelper(context.Background(), os.Args[1:], api.Dial(api.ContainerSocket), os.Stderr))
	}
	os.Exit(cli.Main(program()))
}

func program() *cli.Program {
	return &cli.Program{
		Name: "lls", Version: version, Socket: api.ContainerSocket,
		Short:    "snapshots of datasets too big to copy",
		Commands: cli.Volumes(cli.Container, fstab{"/etc/fstab"}),
		Examples: []cli.Example{
			{Line: "list", Does: "what there is"},
			{Line: "snapshot genomes mine --mount /data", Does: "a writable snapshot of genomes, mounted"},
			{Line: "umount mine", Does: "unmount it"},
			{Line: "delete mine", Does: "throw it away; undelete brings it back"},
		},
		Notes: []string{"Sizes are written 500M, 100G, 2T. Volumes of other containers are CONTAINER/NAME."},
	}
}
