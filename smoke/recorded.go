package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The readers here are as plain as they can be: they say what the recorded logs hold, and share no code with what is
// being proved.

// dayCount is views and clicks of one local day.
type dayCount struct{ views, clicks int64 }

// adsLog is what ads_events holds.
type adsLog struct {
	path   string
	rows   int64
	views  int64
	clicks int64
	days   map[string]dayCount // local day (UTC+3)
	spend  map[string]*big.Rat // campaign -> exact roubles
	total  *big.Rat
}

// readAds reads the ad log. An advertiser pays ad_cost per 1,000 views where the type is CPM and per click where it is
// CPC; a click on a CPM ad and a view of a CPC ad cost nothing.
func readAds(dir string) (*adsLog, error) {
	log := &adsLog{
		path: filepath.Join(dir, "ads_events", "ads_events_2019-04-01_to_04.csv.gz"),
		days: map[string]dayCount{}, spend: map[string]*big.Rat{}, total: new(big.Rat),
	}
	thousand := big.NewRat(1000, 1)
	err := readCSV(log.path, func(row map[string]string) error {
		log.rows++
		day := log.days[row["date"]]
		kind := row["event"] + " " + row["ad_cost_type"]
		switch row["event"] {
		case "view":
			log.views++
			day.views++
		case "click":
			log.clicks++
			day.clicks++
		default:
			return fmt.Errorf("row %d: event %q", log.rows, row["event"])
		}
		log.days[row["date"]] = day
		cost, ok := new(big.Rat).SetString(row["ad_cost"])
		if !ok {
			return fmt.Errorf("row %d: ad_cost %q", log.rows, row["ad_cost"])
		}
		campaign := row["campaign_union_id"]
		if log.spend[campaign] == nil {
			log.spend[campaign] = new(big.Rat)
		}
		switch kind {
		case "view CPM":
			cost.Quo(cost, thousand)
		case "click CPC":
		case "view CPC", "click CPM":
			return nil
		default:
			return fmt.Errorf("row %d: %q", log.rows, kind)
		}
		log.spend[campaign].Add(log.spend[campaign], cost)
		log.total.Add(log.total, cost)
		return nil
	})
	return log, err
}

// redirectLog is what usagov_clicks holds.
type redirectLog struct {
	path       string
	lines      int64
	clicks     int64
	heartbeats int64
	refused    int64 // clicks whose landing is not http(s)
}

func readRedirects(dir string) (*redirectLog, error) {
	log := &redirectLog{path: filepath.Join(dir, "usagov_clicks", "usagov_clicks_2013-01_to_02.ndjson.gz")}
	err := readLines(log.path, func(line []byte) error {
		log.lines++
		var row struct {
			Heartbeat json.Number `json:"_heartbeat_"`
			URL       string      `json:"u"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return fmt.Errorf("line %d: %w", log.lines, err)
		}
		if row.Heartbeat != "" {
			log.heartbeats++
			return nil
		}
		log.clicks++
		if scheme, _, _ := strings.Cut(strings.ToLower(row.URL), "://"); scheme != "http" && scheme != "https" {
			log.refused++
		}
		return nil
	})
	return log, err
}

// purchaseLog is what the checkout_completed rows of puffy_affiliate hold.
type purchaseLog struct {
	paths     []string
	rows      int64 // of all event kinds
	purchases int64
	orders    int64    // distinct order ids
	revenue   *big.Rat // of the first purchase in time of each order id
}

func readPurchases(dir string) (*purchaseLog, error) {
	type purchase struct {
		at, order string
		revenue   *big.Rat
	}
	paths, err := filepath.Glob(filepath.Join(dir, "puffy_affiliate", "events_*.csv.gz"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	log := &purchaseLog{paths: paths, revenue: new(big.Rat)}
	var all []purchase
	for _, path := range paths {
		err := readCSV(path, func(row map[string]string) error {
			log.rows++
			if row["event_name"] != "checkout_completed" {
				return nil
			}
			var data struct {
				Order   string      `json:"transaction_id"`
				Revenue json.Number `json:"revenue"`
			}
			if err := json.Unmarshal([]byte(row["event_data"]), &data); err != nil {
				return err
			}
			revenue, ok := new(big.Rat).SetString(data.Revenue.String())
			if !ok || data.Order == "" {
				return fmt.Errorf("purchase at %s: order %q, revenue %q", row["timestamp"], data.Order, data.Revenue)
			}
			all = append(all, purchase{row["timestamp"], data.Order, revenue})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b purchase) int { return strings.Compare(a.at, b.at) })
	seen := map[string]bool{}
	for _, p := range all {
		log.purchases++
		if !seen[p.order] {
			seen[p.order] = true
			log.orders++
			log.revenue.Add(log.revenue, p.revenue)
		}
	}
	return log, nil
}

// readCSV calls each with every row of a gzip CSV file, by column name.
func readCSV(path string, each func(row map[string]string) error) error {
	return unpack(path, func(r io.Reader) error {
		rows := csv.NewReader(r)
		rows.ReuseRecord = true
		first, err := rows.Read()
		if err != nil {
			return err
		}
		header := slices.Clone(first)
		row := make(map[string]string, len(header))
		for {
			cells, err := rows.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for i, name := range header {
				row[name] = cells[i]
			}
			if err := each(row); err != nil {
				return err
			}
		}
	})
}

// readLines calls each with every line of a gzip text file.
func readLines(path string, each func(line []byte) error) error {
	return unpack(path, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if err := each(lines.Bytes()); err != nil {
				return err
			}
		}
		return lines.Err()
	})
}

func unpack(path string, read func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	plain, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if err := read(plain); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}
