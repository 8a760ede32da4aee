// Package api holds the words spoken on the agent's sockets: the requests, the answers, the error codes and a
// small client. The protocol is HTTP/1.1 with JSON on a Unix socket, the version in the path, so that
// `curl --unix-socket` works as well. It uses the standard library only, because the client and the hook that
// import it are static and must stay small.
package api

import "time"

// Version is the first element of every path on the socket. It changes only when an old client could not go on.
const Version = "1.0"

// Sockets as each side sees them.
const (
	// ContainerSocket is where a container finds its own agent socket; it alone decides who the caller is.
	ContainerSocket = "/lls/lls.sock"
	// AdminSocket is the sysadmin's socket on the host, for root only.
	AdminSocket = "/run/lls/agent.sock"
)

// Paths of the verbs, below "/"+Version. A verb that changes something is a POST with its request as the JSON body and
// answers with a stream of [Line]; one that only tells is a GET and answers with one JSON value, or an [Error].
const (
	PathInfo       = "/"               // GET: ServerInfo
	PathVolumes    = "/volumes"        // GET: []Volume; query all=1 also lists the trash
	PathVolume     = "/volume"         // GET: Volume with Holders; query name=REF
	PathUsage      = "/usage"          // GET: []Usage; query container=NAME on the sysadmin's socket
	PathWatch      = "/watch"          // GET: a stream of Event, one a line, until either side ends it
	PathStatus     = "/status"         // GET: Status; sysadmin
	PathContainers = "/containers"     // GET: []Container; sysadmin
	PathCreate     = "/create"         // POST CreateRequest: Volume
	PathSnapshot   = "/snapshot"       // POST SnapshotRequest: Volume
	PathMount      = "/mount"          // POST MountRequest: Mount
	PathReplay     = "/replay"         // POST ReplayRequest: []Replayed
	PathUmount     = "/umount"         // POST UmountRequest: []Mount, those that were taken away
	PathResize     = "/resize"         // POST ResizeRequest: Volume
	PathSet        = "/set"            // POST SetRequest: Volume
	PathDelete     = "/delete"         // POST NameRequest: Volume
	PathUndelete   = "/undelete"       // POST UndeleteRequest: Volume
	PathPurge      = "/purge"          // POST NameRequest: Volume
	PathTrim       = "/trim"           // POST TrimRequest: []Trimmed
	PathKeep       = "/keep"           // POST KeepRequest: Volume
	PathRefresh    = "/refresh"        // POST NameRequest: Refreshed
	PathExplain    = "/policy/explain" // GET ?name=: Explanation; sysadmin
	PathDryRun     = "/policy/dry-run" // GET: []Prospect; sysadmin
	PathGive       = "/give"           // POST GiveRequest: []Volume; sysadmin
	PathRevoke     = "/revoke"         // POST RevokeRequest: Volume; sysadmin
	PathReload     = "/reload"         // POST Empty: Empty; sysadmin
	PathMailTest   = "/mail/test"      // POST Empty: Empty, when a mail server took a mail; sysadmin
	PathHookStart  = "/hook/start"     // POST HookStart: HookAnswer; the LXC hook
)

// Empty is the body of a request or an answer that says nothing more.
type Empty struct{}

// ServerInfo tells who answers and whom it takes the caller for.
type ServerInfo struct {
	Version string `json:"version"` // of the agent, as in the Debian package
	API     string `json:"api"`
	You     string `json:"you"` // the container's name, or "host"
}

// Values of [Volume.Kind], [Volume.Visibility], [Volume.Access] and [Volume.State].
const (
	KindDataset  = "dataset"  // visible to others, who may snapshot it
	KindSnapshot = "snapshot" // has, or had, an origin
	KindVolume   = "volume"

	Hidden  = "hidden"
	Visible = "visible"

	AccessRW   = "rw"
	AccessRO   = "ro"
	AccessNone = "none"

	StateLive  = "live"
	StateTrash = "trash"
)

// HostOwner is the owner of what belongs to no container.
const HostOwner = "host"

// HiddenOrigin stands in for an origin that the asker may not know.
const HiddenOrigin = "-"

// Volume is what an asker may know of a volume. Sizes are bytes.
type Volume struct {
	Name       string     `json:"name"`  // as the asker types it: NAME, or OWNER/NAME
	Owner      string     `json:"owner"` // a container's name, or "host"
	Kind       string     `json:"kind"`
	Origin     string     `json:"origin,omitempty"` // as the asker types it, HiddenOrigin, or empty
	Pool       string     `json:"pool"`
	FS         string     `json:"fs,omitempty"`
	Size       int64      `json:"size"`
	Used       *int64     `json:"used,omitempty"`     // bytes mapped, shared ones included; absent while inactive
	Frees      *int64     `json:"frees,omitempty"`    // bytes that purging it gives back; only for its owner and the sysadmin, and only once it was read
	FreesAt    *time.Time `json:"frees_at,omitempty"` // when that was so
	Visibility string     `json:"visibility"`
	Access     string     `json:"access"`
	State      string     `json:"state"`               // or "new" while it is made in several steps
	ReadOnly   bool       `json:"read_only,omitempty"` // the logical volume itself
	Active     bool       `json:"active,omitempty"`    // it has a device
	CutOff     bool       `json:"cut_off,omitempty"`   // by force: its device gives errors until nobody has it open; only in PathVolumes and PathVolume
	Created    time.Time  `json:"created"`
	Deleted    *time.Time `json:"deleted,omitempty"`
	Expires    *time.Time `json:"expires,omitempty"` // when it goes to the trash, or out of it, if nothing changes
	Lease      *time.Time `json:"lease,omitempty"`
	Forever    bool       `json:"forever,omitempty"` // a lease without an end
	GrowTo     int64      `json:"grow_to,omitempty"`
	Mounts     []Mount    `json:"mounts,omitempty"`
	Holders    []Holder   `json:"holders,omitempty"` // only from PathVolume and in busy errors
	Fstab      []Replayed `json:"fstab,omitempty"`   // only from PathVolume: lines of the asker's fstab that name it
	ID         string     `json:"id"`
	LV         string     `json:"lv,omitempty"` // VG/LV; only for the sysadmin
	Orphan     bool       `json:"orphan,omitempty"`
}

// Mount is one place where a volume is mounted.
type Mount struct {
	Volume    string `json:"volume,omitempty"`
	Container string `json:"container"` // "host", the asker's own name, or AnotherContainer
	Path      string `json:"path,omitempty"`
	ReadOnly  bool   `json:"read_only,omitempty"`
	Already   bool   `json:"already,omitempty"` // it was mounted there before the request
}

// AnotherContainer stands for every container that is not the asker's.
const AnotherContainer = "another container"

// Holder is something that keeps a volume busy.
type Holder struct {
	Container string `json:"container"`
	PID       int    `json:"pid,omitempty"` // as the asker sees it; 0 when it is not the asker's business
	Command   string `json:"command,omitempty"`
	Path      string `json:"path,omitempty"`
}

// CreateRequest asks for a new, empty volume with a file system.
type CreateRequest struct {
	Name    string `json:"name"`
	Size    string `json:"size"`           // as people write it: 10G
	FS      string `json:"fs,omitempty"`   // ext4 (default) or xfs
	Pool    string `json:"pool,omitempty"` // default: the only, or the first, pool
	Visible *bool  `json:"visible,omitempty"`
	Mount   string `json:"mount,omitempty"` // an absolute path to mount it at, too
	Owner   string `json:"owner,omitempty"` // sysadmin only
}

// SnapshotRequest asks for a writable snapshot of Source.
type SnapshotRequest struct {
	Source   string `json:"source"`
	Name     string `json:"name,omitempty"` // default: made from the source's name and the date
	Visible  *bool  `json:"visible,omitempty"`
	Mount    string `json:"mount,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"` // a read-only logical volume
	Owner    string `json:"owner,omitempty"`     // sysadmin only
}

// MountRequest asks to have a volume mounted at Path.
type MountRequest struct {
	Name      string `json:"name"`
	Path      string `json:"path"`
	ReadOnly  bool   `json:"read_only,omitempty"`
	NoAtime   bool   `json:"noatime,omitempty"` // mount options of mount(8)
	Discard   bool   `json:"discard,omitempty"`
	Container string `json:"container,omitempty"` // sysadmin only; default the host itself
}

// UmountRequest names a volume, all of whose mounts in the asker's container go, or one mounted path.
type UmountRequest struct {
	Target    string `json:"target"`
	Container string `json:"container,omitempty"` // sysadmin only; default the host itself
}

// ResizeRequest grows a volume and its file system.
type ResizeRequest struct {
	Name string `json:"name"`
	Size string `json:"size"` // 20G, or +5G
}

// SetRequest changes what is not empty.
type SetRequest struct {
	Name       string `json:"name"`
	Visibility string `json:"visibility,omitempty"`
	Access     string `json:"access,omitempty"`
	GrowTo     string `json:"grow_to,omitempty"` // the size that it grows to by itself, or NoGrowth
}

// NoGrowth has a volume not grow by itself.
const NoGrowth = "none"

// NameRequest names one volume.
type NameRequest struct {
	Name string `json:"name"`
}

// Refreshed is a snapshot that was put in the place of another of the same name, and that other.
type Refreshed struct {
	Volume Volume `json:"volume"` // what its origin was at its Created
	Old    Volume `json:"old"`    // in the trash
	// Edits are the bytes that no volume but Old has; absent while that is not known.
	Edits   *int64     `json:"edits,omitempty"`
	EditsAt *time.Time `json:"edits_at,omitempty"` // when that was so: what was written since is not in it
}

// RevokeRequest asks who has a volume's device open without a right to it. Force cuts them off.
type RevokeRequest struct {
	Name  string `json:"name"`
	Force bool   `json:"force,omitempty"`
}

// KeepRequest gives a volume a lease: For is "7d", "never" (it has no end) or "0" (none any more).
type KeepRequest struct {
	Name string `json:"name"`
	For  string `json:"for"`
}

// TrimRequest asks to give what deleted files used back to the pool. No name is every mounted volume that is the asker's own; the
// sysadmin's are all.
type TrimRequest struct {
	Name string `json:"name,omitempty"`
}

// Trimmed is what became of a volume that was to be trimmed.
type Trimmed struct {
	Name     string `json:"name"`
	Returned int64  `json:"returned"`          // bytes it maps less than before; the pool keeps what snapshots share with it
	Problem  string `json:"problem,omitempty"` // why it was not trimmed, or not all of it
}

// Explanation is why a volume is kept or goes, what comes next, and what would change that.
type Explanation struct {
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Action  string   `json:"action"` // now: keep, announce, trash or purge
	Reasons []string `json:"reasons"`
	Next    string   `json:"next"` // in words: what is due now, and what comes after
	Change  []string `json:"change,omitempty"`
}

// Prospect is something that the policy would do.
type Prospect struct {
	When   string   `json:"when"`
	After  int64    `json:"after,omitempty"` // seconds of running time; 0 for what does not come with time
	Name   string   `json:"name"`
	ID     string   `json:"id,omitempty"`
	Action string   `json:"action"`
	Why    []string `json:"why,omitempty"`
}

// UndeleteRequest brings a volume back from the trash.
type UndeleteRequest struct {
	Name string `json:"name"`
	As   string `json:"as,omitempty"`
}

// GiveRequest hands every volume of one owner to another.
type GiveRequest struct {
	From string `json:"from"` // a container's name, NAME#TOKEN for an orphan, or "host"
	To   string `json:"to"`
}

// HookStart is what the start-host hook says. PID is the container's init, not yet executed.
type HookStart struct {
	Name    string `json:"name"`
	LXCPath string `json:"lxcpath"`
	PID     int    `json:"pid"`
}

// HookAnswer says what a start cannot do without: one sentence for each mount marked x-lls.required that failed.
type HookAnswer struct {
	Missing []string `json:"missing,omitempty"`
	// Unread says that the agent could not read the fstab, so that it does not know.
	Unread bool `json:"unread,omitempty"`
}

// ReplayRequest asks to mount what the container's fstab says, now.
type ReplayRequest struct {
	Container string `json:"container,omitempty"` // sysadmin only
}

// Replayed is what became of one line of a container's fstab.
type Replayed struct {
	Line     int    `json:"line"`
	Volume   string `json:"volume,omitempty"`
	Path     string `json:"path,omitempty"`
	Mounted  bool   `json:"mounted"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Required bool   `json:"required,omitempty"` // x-lls.required
	Problem  string `json:"problem,omitempty"`  // why it is not mounted
	Warning  string `json:"warning,omitempty"`  // what should stand there instead
	Later    bool   `json:"later,omitempty"`    // the problem is the host's, and it is tried again for a while
}

// Usage is what one owner uses of one pool, and may use. Sizes are bytes; a limit of 0 is none.
type Usage struct {
	Container    string `json:"container"`
	Pool         string `json:"pool"`
	Volumes      int    `json:"volumes"`
	VolumesMax   int    `json:"volumes_max,omitempty"`
	Snapshots    int    `json:"snapshots"`
	SnapshotsMax int    `json:"snapshots_max,omitempty"`
	Size         int64  `json:"size"` // sum of virtual sizes, trash included
	SizeMax      int64  `json:"size_max,omitempty"`
	Trash        int    `json:"trash"`
	// Exclusive are the bytes that no other owner's volume maps, once they were read. Nothing new is made from the limit on.
	Exclusive    *int64     `json:"exclusive,omitempty"`
	ExclusiveMax int64      `json:"exclusive_max,omitempty"`
	ExclusiveAt  *time.Time `json:"exclusive_at,omitempty"` // when that was so
}

// Status is the sysadmin's overview.
type Status struct {
	Version    string      `json:"version"`
	Since      string      `json:"since"` // when the agent started, RFC 3339
	Pools      []Pool      `json:"pools"`
	Containers int         `json:"containers"` // running and served
	Volumes    int         `json:"volumes"`
	Trash      int         `json:"trash"`
	Problems   []string    `json:"problems,omitempty"`
	Mail       *MailStatus `json:"mail,omitempty"`
}

// MailStatus is how mail to the sysadmin goes.
type MailStatus struct {
	To        []string   `json:"to"`               // nobody: no mail
	Queued    int        `json:"queued"`           // pieces of news that no mail server has taken yet
	Oldest    *time.Time `json:"oldest,omitempty"` // of them
	LastSent  *time.Time `json:"last_sent,omitempty"`
	LastError string     `json:"last_error,omitempty"` // of the last try; absent when that went well
}

// Writer is a volume, and how many bytes of new blocks it got, as far as is known, since an hour or two ago.
type Writer struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Outlook is when a part of a pool is full, at the present rate.
type Outlook struct {
	Text   string     `json:"text"`
	Known  bool       `json:"known"`             // enough was seen to say
	Rate   int64      `json:"rate"`              // bytes an hour
	FullAt *time.Time `json:"full_at,omitempty"` // absent when it does not fill
}

// Pool is the state of one thin pool. Sizes are bytes.
type Pool struct {
	Name            string  `json:"name"`
	LV              string  `json:"lv"`
	Size            int64   `json:"size"`
	DataPercent     float64 `json:"data_percent"`
	MetadataPercent float64 `json:"metadata_percent"`
	Virtual         int64   `json:"virtual"` // sum of the volumes' sizes
	GroupFree       int64   `json:"group_free"`
	Problem         string  `json:"problem,omitempty"`

	// These are in Status only.
	MetadataSize     int64    `json:"metadata_size,omitempty"`
	DataForecast     *Outlook `json:"data_forecast,omitempty"`
	MetadataForecast *Outlook `json:"metadata_forecast,omitempty"`
	Writers          []Writer `json:"writers,omitempty"` // who writes most
}

// Container is a container as the agent knows it.
type Container struct {
	Name       string `json:"name"`
	LXCPath    string `json:"lxcpath"`
	Token      string `json:"token"`
	State      string `json:"state"` // running or stopped
	PID        int    `json:"pid,omitempty"`
	Privileged *bool  `json:"privileged,omitempty"` // known while LLS serves it
	LLS        string `json:"lls"`                  // "ok", or why LLS does not work in it; "-" while it is stopped
	Mounts     int    `json:"mounts"`
	// Fstab is what became of its fstab when that was last replayed.
	Fstab []Replayed `json:"fstab,omitempty"`
}

// Values of [Event.What].
const (
	EventCreated   = "created"
	EventChanged   = "changed" // its size, visibility, access, owner, lease or limit of growth
	EventDeleted   = "deleted" // it went to the trash
	EventUndeleted = "undeleted"
	EventPurged    = "purged"   // it is gone for good, or no longer to be seen
	EventExpiring  = "expiring" // nobody uses it, and it goes to the trash some time after
	EventFull      = "full"     // it is to grow by itself, is nearly full, and cannot; only its owner hears of it
	EventMounted   = "mounted"
	EventUnmounted = "unmounted"
)

// Event is something that happened to a volume the asker may know of.
type Event struct {
	Time      time.Time `json:"time"`
	What      string    `json:"what"`
	Name      string    `json:"name"` // as the asker types it
	Owner     string    `json:"owner"`
	Container string    `json:"container,omitempty"` // of a mount, as in [Mount]
	Why       string    `json:"why,omitempty"`       // of EventFull
	Path      string    `json:"path,omitempty"`
	// Expires is when it goes to the trash at the earliest, of EventExpiring: only time that the agent sees counts.
	Expires *time.Time `json:"expires,omitempty"`
}
