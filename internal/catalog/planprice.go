package catalog

import (
	"fmt"
	"strings"

	"milliard/internal/event"
)

// price plans a price rule. A campaign that is not empty is the one that the rule stands below.
func (w *plan) price(d *PriceDoc, campaign string, index int) {
	doc := *d
	named := doc.Key
	if campaign != "" && doc.Campaign == "" {
		doc.Campaign = campaign
	}
	if named == "" {
		named = strings.TrimPrefix(fmt.Sprintf("%s prices[%d]", doc.Campaign, index), " ")
	}
	w.try(KindPrice, named, func() error {
		if campaign != "" && doc.Campaign != campaign {
			return badField("campaign", "is not the campaign that the price stands below")
		}
		return w.priceRule(&doc)
	})
}

func (w *plan) priceRule(d *PriceDoc) error {
	if d.Key == "" {
		d.Key = priceKey(d)
	}
	if err := w.once(KindPrice, 0, d.Key); err != nil {
		return err
	}
	was := w.view.prices.byKey(0, []byte(d.Key))
	p := &Price{Key: d.Key, Version: 1, Status: Active}
	if was != nil {
		p.Version, p.Status = was.Version, was.Status
	}
	set(&p.Status, d.Status)
	if err := checkStatus(p.Status); err != nil {
		return err
	}
	if was != nil && d.statusOnly() {
		c := *was
		c.Status = p.Status
		return emit(w, KindPrice, w.view.info.ID, uint32(c.ID), c.Key, c.Status, was, &c)
	}
	if err := firstOf(p.terms(d), w.scope(d, p), w.priceCurrency(d, p)); err != nil {
		return err
	}
	if was != nil && sameRule(was, p) {
		p.ID = was.ID
		return emit(w, KindPrice, w.view.info.ID, uint32(p.ID), p.Key, p.Status, was, p)
	}
	p.ID = event.PriceID(max(w.view.prices.lastID()+1, uint32(FirstRulePrice)))
	if was != nil {
		p.Version++
	}
	return emit(w, KindPrice, w.view.info.ID, uint32(p.ID), p.Key, "", was, p) // a new version is never an archive
}

// statusOnly says whether the document wants to change nothing but the status.
func (d *PriceDoc) statusOnly() bool {
	return d.Side == "" && d.Model == "" && d.Rate == nil && d.Banner == "" && d.Affiliate == "" && d.Goal == ""
}

// priceKey names a rule after what it is: "45061/payout/cpa/goal=sale".
func priceKey(d *PriceDoc) string {
	parts := []string{"all", string(d.Side), string(d.Model)}
	if d.Campaign != "" {
		parts[0] = d.Campaign
	}
	for _, p := range [][2]string{{"banner", d.Banner}, {"affiliate", d.Affiliate}, {"goal", d.Goal}} {
		if p[1] != "" {
			parts = append(parts, p[0]+"="+p[1])
		}
	}
	return strings.Join(parts, "/")
}

// terms sets side, model and rate.
func (p *Price) terms(d *PriceDoc) error {
	p.Side, p.Model = d.Side, d.Model
	if p.Side != SideRevenue && p.Side != SidePayout {
		return badField("side", "%.20q is not revenue or payout", d.Side)
	}
	t, ok := p.Model.pays()
	if !ok {
		return badField("model", "%.20q is not cpm, cpc, cpa, revshare, carried_cpm, carried_cpc or carried_cpa", d.Model)
	}
	carried := p.Model == CarriedCPM || p.Model == CarriedCPC || p.Model == CarriedCPA
	switch {
	case d.Goal != "" && t != event.Conversion:
		return badField("goal", "cannot limit %s, which does not pay for conversions", p.Model)
	case carried && d.Rate != nil && *d.Rate != 0:
		return badField("rate", "is carried by the event for %s", p.Model)
	case !carried && d.Rate == nil:
		return badField("rate", "is required")
	case carried:
		return nil
	}
	p.Rate = event.Micros(*d.Rate)
	switch {
	case p.Rate < 0:
		return badField("rate", "is negative")
	case p.Rate > maxRate:
		return badField("rate", "is more than %s", maxRate)
	case p.Model == RevShare && p.Rate > 100*event.One:
		return badField("rate", "is more than 100 percent")
	}
	return nil
}

// scope turns the names that limit a rule into ids.
func (w *plan) scope(d *PriceDoc, p *Price) error {
	v := w.view
	if d.Campaign != "" {
		c := v.campaigns.byKey(0, []byte(d.Campaign))
		if c == nil {
			return badField("campaign", "%.80q does not exist", d.Campaign)
		}
		p.Campaign = c.ID
	}
	if d.Banner != "" {
		if p.Campaign == 0 {
			return badField("banner", "needs the campaign that it belongs to")
		}
		b := v.banners.byKey(uint32(p.Campaign), []byte(d.Banner))
		if b == nil {
			return badField("banner", "%.80q does not exist in the campaign", d.Banner)
		}
		p.Banner = b.ID
	}
	if d.Affiliate != "" {
		a := v.affiliates.byKey(0, []byte(d.Affiliate))
		if a == nil {
			return badField("affiliate", "%.80q does not exist", d.Affiliate)
		}
		p.Affiliate = a.ID
	}
	if d.Goal != "" {
		g := v.goals.byKey(0, []byte(d.Goal))
		if g == nil {
			return badField("goal", "%.80q does not exist", d.Goal)
		}
		p.Goal = g.ID
	}
	return nil
}

// priceCurrency settles the currency: the rule's own, else the campaign's, else the tenant's.
func (w *plan) priceCurrency(d *PriceDoc, p *Price) error {
	p.Currency = w.view.info.Currency
	if c := w.view.campaigns.byID(uint32(p.Campaign)); c != nil {
		set(&p.Currency, c.Currency)
	}
	set(&p.Currency, d.Currency)
	return checkCurrency(p.Currency)
}
