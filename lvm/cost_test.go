package lvm

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestDataForSaysHowFarMetadataStays(t *testing.T) {
	pool := Pool{Size: GiB, MetadataSize: 4 * MiB, ChunkSize: 64 * KiB}
	small := Pool{Size: 8 * GiB, MetadataSize: 4 * MiB, ChunkSize: 64 * KiB} // less than LVM would have made
	for _, c := range []struct {
		pool           Pool
		metadata, want Size
	}{
		{pool, 0, 4 * GiB}, // what it has
		{pool, 8 * MiB, 8 * GiB},
		{pool, MaxPoolMetadata - MiB, (MaxPoolMetadata - MiB) / 64 * 64 * KiB},
		{pool, MaxPoolMetadata, math.MaxInt64}, // LVM makes no more
		{small, 0, 8 * GiB},
		{Pool{Size: GiB, MetadataSize: 4 * MiB}, 0, math.MaxInt64}, // not known
	} {
		if got := c.pool.DataFor(c.metadata); got != c.want {
			t.Errorf("with %s of metadata %+v has %s, want %s", c.metadata, c.pool, got, c.want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		p := Pool{Size: 1 + Size(r.Int64N(int64(TiB))), MetadataSize: 1 + Size(r.Int64N(int64(MaxPoolMetadata))), ChunkSize: 64 * KiB * Size(1+r.Int64N(100))}
		allowed := Size(r.Int64N(int64(MaxPoolMetadata)))
		data := p.DataFor(allowed)
		if got := p.MetadataFor(data); got > max(allowed, p.MetadataSize) {
			t.Fatalf("with %s of data %+v has %s of metadata, and %s is allowed", data, p, got, allowed)
		}
		if data == math.MaxInt64 {
			continue
		}
		if got := p.MetadataFor(data + 2*p.ChunkSize); got <= max(allowed, p.MetadataSize) {
			t.Fatalf("more data than %s needs no more metadata of %+v than the %s that are allowed: %s", data, p, allowed, got)
		}
	}
}
