package journal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// tree is a Merkle log of which only the right edge is held: for each level of tiles the hashes of the one that is not full. It
// agrees with tlog's own hashing, one leaf at a time and without reading back.
type tree struct {
	size uint64
	edge [][]tlog.Hash
	// full takes each tile as it becomes full. It may be nil.
	full func(t tile)
}

// tile is one tile: its level, its number, and its hashes, fewer than tileWidth at the right edge. The hashes are valid until the
// tree grows.
type tile struct {
	level  int
	n      uint64
	hashes []tlog.Hash
}

// hashLeaf hashes a leaf that already has RFC 6962's zero in front.
func hashLeaf(leaf []byte) tlog.Hash { return sha256.Sum256(leaf) }

func (t *tree) add(leaf tlog.Hash) {
	t.size++
	for level := 0; ; level++ {
		if level == len(t.edge) {
			t.edge = append(t.edge, make([]tlog.Hash, 0, tileWidth))
		}
		t.edge[level] = append(t.edge[level], leaf)
		if len(t.edge[level]) < tileWidth {
			return
		}
		if t.full != nil {
			t.full(tile{level, t.size>>(tileHeight*(level+1)) - 1, t.edge[level]})
		}
		leaf = perfect(t.edge[level])
		t.edge[level] = t.edge[level][:0]
	}
}

// addBody adds the records of a block's body, whose frames were checked before.
func (t *tree) addBody(body []byte) {
	for len(body) > 0 {
		var leaf []byte
		leaf, body = nextLeaf(body)
		t.add(hashLeaf(leaf))
	}
}

// perfect returns the root over a power of two of hashes.
func perfect(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	var row [tileWidth / 2]tlog.Hash
	n := len(hashes) / 2
	for i := range n {
		row[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
	}
	for n > 1 {
		n /= 2
		for i := range n {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// root returns the hash of the whole tree.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	var root tlog.Hash
	first := true
	for _, row := range t.edge {
		for bit := 1; bit < tileWidth; bit <<= 1 {
			if len(row)&bit == 0 {
				continue
			}
			end := len(row) &^ (bit - 1)
			left := perfect(row[end-bit : end])
			if first {
				root, first = left, false
			} else {
				root = tlog.NodeHash(left, root)
			}
		}
	}
	return root
}

// partial returns the tiles of the right edge.
func (t *tree) partial() []tile {
	var out []tile
	for level, row := range t.edge {
		if len(row) > 0 {
			out = append(out, tile{level, t.size >> (tileHeight * (level + 1)), row})
		}
	}
	return out
}

func (t *tree) clone() *tree {
	c := &tree{size: t.size, full: t.full}
	for _, row := range t.edge {
		c.edge = append(c.edge, append(make([]tlog.Hash, 0, tileWidth), row...))
	}
	return c
}

// tilePath is the path of a tile in the layout of tlog-tiles, which differs from tlog's in that it does not say the height.
func tilePath(dir string, level int, n uint64, width int) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if width < tileWidth {
		path += ".p/" + strconv.Itoa(width)
	}
	return filepath.Join(dir, tileDir, strconv.Itoa(level), path)
}

// writeTile writes a tile. It does not sync it: tiles follow from the segments, and what a crash takes of them is written again.
func writeTile(dir string, t tile) error {
	data := make([]byte, 0, len(t.hashes)*tlog.HashSize)
	for i := range t.hashes {
		data = append(data, t.hashes[i][:]...)
	}
	path := tilePath(dir, t.level, t.n, len(t.hashes))
	f, err := openFile(path, os.O_WRONLY|os.O_CREATE)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), dirPerm); err == nil {
			f, err = openFile(path, os.O_WRONLY|os.O_CREATE)
		}
	}
	if err != nil {
		return err
	}
	// Written over and not emptied first, since a reader may be in it: what is written again is what was there.
	_, err = f.Write(data)
	if info, statErr := f.Stat(); err == nil && statErr == nil && info.Size() > int64(len(data)) {
		err = f.Truncate(int64(len(data)))
	}
	return errors.Join(err, f.Close())
}

// readTile reads a tile of the given width into memory that is used again, out of a wider one if need be: tiles grow, and what they
// held does not change.
func readTile(into []byte, dir string, level int, n uint64, width int) ([]byte, error) {
	const most = tileWidth * tlog.HashSize
	data, err := readFile(into, tilePath(dir, level, n, width), most)
	if errors.Is(err, fs.ErrNotExist) && width < tileWidth {
		for w := tileWidth; w > width && errors.Is(err, fs.ErrNotExist); w-- {
			data, err = readFile(into, tilePath(dir, level, n, w), most)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(data) < width*tlog.HashSize {
		return nil, tampered("%s has %d bytes for %d hashes", tilePath(dir, level, n, width), len(data), width)
	}
	return data[:width*tlog.HashSize], nil
}

// readEdge returns the tree of a size as the tiles have it. Nothing says that it is right until a root over it was compared.
func readEdge(dir string, size uint64) (*tree, error) {
	t := &tree{size: size}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		at := size >> (tileHeight * level)
		row := make([]tlog.Hash, 0, tileWidth)
		if width := int(at % tileWidth); width > 0 {
			data, err := readTile(nil, dir, level, at/tileWidth, width)
			if err != nil {
				return nil, err
			}
			for i := range width {
				row = append(row, tlog.Hash(data[i*tlog.HashSize:]))
			}
		}
		t.edge = append(t.edge, row)
	}
	return t, nil
}

// tiles reads tiles for tlog, which checks them against the root before it believes them.
type tiles string

func (tiles) Height() int { return tileHeight }

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (dir tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, t := range list {
		data, err := readTile(nil, string(dir), t.L, uint64(t.N), t.W)
		if err != nil {
			return nil, err
		}
		out[i] = data
	}
	return out, nil
}

// provenEdge returns the tree of a size as the tiles have it, proved to be part of the tree of a checkpoint.
func provenEdge(dir string, size uint64, c Checkpoint) (*tree, error) {
	t := &tree{size: size}
	var indexes []int64
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		at := size >> (tileHeight * level)
		width := at % tileWidth
		t.edge = append(t.edge, make([]tlog.Hash, width, tileWidth))
		for i := range width {
			indexes = append(indexes, tlog.StoredHashIndex(tileHeight*level, int64(at-width+i)))
		}
	}
	hashes, err := c.reader(dir).ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("journal: the tiles below record %d: %w", size, err)
	}
	for _, row := range t.edge {
		hashes = hashes[copy(row, hashes):]
	}
	return t, nil
}
