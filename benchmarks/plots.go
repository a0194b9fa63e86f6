package main

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/grpcguard/grpcguard/benchmarks/internal/row"
)

var (
	oursColor   = color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
	theirsColor = color.RGBA{R: 0xa0, G: 0xa0, B: 0xa0, A: 0xff}
	goalColor   = color.RGBA{R: 0xc0, G: 0x39, B: 0x2b, A: 0xff}
	// lineColors are those of a plot's lines, in order.
	lineColors = []color.Color{oursColor, theirsColor, color.RGBA{R: 0xe0, G: 0x8e, B: 0x1b, A: 0xff}, color.RGBA{R: 0x3c, G: 0x8c, B: 0x4a, A: 0xff}}
)

// picture is a plot that was drawn.
type picture struct{ title, file string }

// drawGroup draws the ratios of a group beside their goals, and those of the plots that are the group's.
func drawGroup(dir, group string, rows []*row.Row, plots []row.Plot) ([]picture, error) {
	var all []picture
	add := func(title string, p *plot.Plot, height vg.Length) error {
		pic := picture{title, fileName(title)}
		all = append(all, pic)
		return save(p, height, filepath.Join(dir, pic.file))
	}
	p, n, err := ratioPlot(group, rows)
	if err == nil && n > 0 {
		err = add(group+": ratios", p, vg.Length(n)*0.7*vg.Centimeter+3*vg.Centimeter)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range plots {
		if p.Group != group {
			continue
		}
		drawn, err := linePlot(&p)
		if err == nil {
			err = add(p.Title, drawn, 9*vg.Centimeter)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ratioPlot has a horizontal bar a row, numbered as the table is, and a line where its goal is. It says how many bars there are.
func ratioPlot(group string, rows []*row.Row) (*plot.Plot, int, error) {
	p := plot.New()
	p.Title.Text = group + ": ours beside theirs (more is better)"
	p.X.Label.Text = "ratio, and its goal"
	var names []string
	var ratios plotter.Values
	var goals []*plotter.Line
	least, most := 1.0, 1.0
	for i, r := range slices.Backward(rows) {
		ratio := row.Median(r.Ratios())
		if len(r.Ratios()) == 0 || !(ratio > 0) || math.IsInf(ratio, 0) {
			continue
		}
		at := float64(len(ratios))
		names, ratios = append(names, strconv.Itoa(i+1)), append(ratios, ratio)
		least, most = min(least, ratio), max(most, ratio)
		if r.Goal > 0 {
			l, err := plotter.NewLine(plotter.XYs{{X: r.Goal, Y: at - 0.4}, {X: r.Goal, Y: at + 0.4}})
			if err != nil {
				return nil, 0, err
			}
			l.Color, l.Width = goalColor, vg.Points(2)
			goals = append(goals, l)
			least, most = min(least, r.Goal), max(most, r.Goal)
		}
	}
	if len(ratios) == 0 {
		return p, 0, nil
	}
	// Ratios that are far apart are drawn on a scale of powers, where bars begin at 1.
	scaled := most/least > 20
	for i, ratio := range ratios {
		from := 0.0
		if scaled {
			from = 1
		}
		y := float64(i)
		bar, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: y - 0.3}, {X: ratio, Y: y - 0.3}, {X: ratio, Y: y + 0.3}, {X: from, Y: y + 0.3}})
		if err != nil {
			return nil, 0, err
		}
		bar.Color, bar.Width = oursColor, 0
		p.Add(bar)
	}
	for _, l := range goals {
		p.Add(l)
	}
	p.NominalY(names...)
	p.X.Min, p.X.Max = 0, most*1.05
	if scaled {
		p.X.Min, p.X.Max = least/1.3, most*1.3
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	return p, len(ratios), nil
}

// linePlot has all lines of a plot. X that is far apart is drawn on a scale of powers.
func linePlot(of *row.Plot) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = of.Title, of.X, of.Unit
	p.Legend.Top, p.Legend.XOffs = true, -vg.Points(6)
	least, most := math.Inf(1), math.Inf(-1)
	for i, line := range of.Lines {
		var points plotter.XYs
		for _, at := range line.Points {
			points = append(points, plotter.XY(at))
			least, most = min(least, at.X), max(most, at.X)
		}
		if len(points) == 0 {
			continue
		}
		slices.SortFunc(points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		l, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", of.Title, err)
		}
		c := lineColors[i%len(lineColors)]
		l.Color, l.Width = c, vg.Points(2)
		dots.Color, dots.Shape = c, draw.CircleGlyph{}
		p.Add(l, dots)
		p.Legend.Add(line.Name, l, dots)
	}
	p.Y.Min = min(0, p.Y.Min)
	// Room for the legend above the lines.
	p.Y.Max += (p.Y.Max - p.Y.Min) * 0.12 * float64(len(of.Lines))
	if least > 0 && most/least > 20 {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	return p, nil
}

func save(p *plot.Plot, height vg.Length, path string) error {
	p.BackgroundColor = color.White
	canvas := vgsvg.New(20*vg.Centimeter, height)
	p.Draw(draw.New(canvas))
	var text bytes.Buffer
	if _, err := canvas.WriteTo(&text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

// fileName makes a file's name of a title.
func fileName(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	return strings.Join(words, "-") + ".svg"
}
