package policy

import "time"

// A Step is by how much something grows: a share of what it is, or bytes. One of the two is set.
type Step struct {
	Percent float64
	Bytes   int64
}

// Growth is how one kind of thing grows by itself: a pool's data, its metadata, or a volume whose owner asked for it.
type Growth struct {
	Threshold float64       // percent full from which on it grows; 0: it does not grow by itself
	Step      Step          // by how much at a time
	Cap       int64         // bytes it never grows beyond by itself; 0: no cap
	Reserve   Step          // of the volume group, to be left free; meaningless for volumes
	CoolDown  time.Duration // between two growths of the same thing, while it is not close to full
}

// Expiry is how long what nobody uses is kept. Only observed time counts: what passed while the agent did not look, does not.
type Expiry struct {
	Unused   time.Duration // a snapshot unused so long is announced to its owner; 0: never
	Notice   time.Duration // and so much later goes to the trash
	Trash    time.Duration // which keeps it so long; 0: until somebody purges it
	LeaseMax time.Duration // the longest lease a container may take; 0: no limit
	IdleMax  time.Duration // a volume named in an fstab, or of a stopped container, ages after so long after all; 0: never
}

// Trim is how deleted files give their space back to the pool.
type Trim struct {
	Every    time.Duration // mounted volumes are trimmed so often; 0: not by the clock
	Pressure float64       // percent full of a pool's data from which on its mounted volumes are trimmed at once; 0: never
	Discard  bool          // mounts are made with the option discard
}

// Mail is where news for the sysadmin goes.
type Mail struct {
	To       []string      // nobody: no mail
	From     string        // empty: root at this host
	Relay    string        // host:port of an SMTP server; empty: the host's sendmail
	Sendmail string        // the program, when there is no relay
	Every    time.Duration // at most one in so long, after a first one at once
	Levels   []float64     // percent; a mail when a pool's data or metadata passes one, rising
}

// Raw is what containers of each kind may do with a pool's volumes as block devices: RawNone, RawRead or RawWrite.
type Raw struct {
	Privileged   string
	Unprivileged string
}

// Values of Raw.
const (
	RawNone  = "none"
	RawRead  = "ro"
	RawWrite = "rw"
)

// Rules are all that is decided for one volume, or for one container in one pool: the general sections of lls.toml, and over them
// each [[rules]] that matches, in their order.
type Rules struct {
	Limits Limits
	Growth Growth // of volumes
	Expiry Expiry
	Trim   Trim
	Raw    Raw
}
