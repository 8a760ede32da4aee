package filesystem

import (
	"os"
	"testing"

	"lls/test/kit"
)

func TestMain(m *testing.M) { os.Exit(kit.InOwnMounts(m)) }
