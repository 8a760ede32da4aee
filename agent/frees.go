package agent

import "lls/agent/catalog"

// frees is how many bytes purging a volume gives back to its pool, as far as is known.
func (a *Agent) frees(catalog.ID) (int64, bool) { return 0, false }
