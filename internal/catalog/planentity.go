package catalog

import (
	"fmt"
	"slices"
	"strings"

	"milliard/internal/event"
)

func (w *plan) goal(d *GoalDoc) error {
	if err := firstOf(w.once(KindGoal, 0, d.Key), checkText("name", d.Name, MaxName)); err != nil {
		return err
	}
	was := w.view.goals.byKey(0, []byte(d.Key))
	id := w.view.goals.lastID() + 1
	if was == nil && id > 1<<16-1 {
		return badField("key", "too many goals")
	}
	g := start(was, Goal{ID: event.GoalID(id), Key: d.Key, Name: d.Key})
	set(&g.Name, d.Name)
	return emit(w, KindGoal, w.view.info.ID, uint32(g.ID), g.Key, "", was, g)
}

func (w *plan) eventType(d *EventTypeDoc) error {
	if err := firstOf(w.once(KindEventType, 0, d.Key), checkText("name", d.Name, MaxName)); err != nil {
		return err
	}
	for _, t := range w.view.builtin.types {
		if t.Key == d.Key {
			return badField("key", "%q is built in", d.Key)
		}
	}
	was := w.view.eventTypes.byKey(0, []byte(d.Key))
	id := max(w.fold.s.custom.lastID()+1, uint32(event.FirstCustomType))
	if was == nil && id > 1<<16-1 {
		return badField("key", "too many event types")
	}
	t := start(was, EventType{ID: event.Type(id), Key: d.Key, Name: d.Key})
	set(&t.Name, d.Name)
	return emit(w, KindEventType, w.view.info.ID, uint32(t.ID), t.Key, "", was, t)
}

func (w *plan) advertiser(d *AdvertiserDoc) error {
	if err := firstOf(w.once(KindAdvertiser, 0, d.Key), checkText("name", d.Name, MaxName)); err != nil {
		return err
	}
	was := w.view.advertisers.byKey(0, []byte(d.Key))
	a := start(was, Advertiser{
		ID: event.AdvertiserID(w.view.advertisers.lastID() + 1), Key: d.Key, Name: d.Key, Status: Active,
	})
	set(&a.Name, d.Name)
	set(&a.Status, d.Status)
	set(&a.Currency, d.Currency)
	if a.Currency != "" {
		if err := checkCurrency(a.Currency); err != nil {
			return err
		}
	}
	if err := firstOf(checkStatus(a.Status), w.postback(d, a)); err != nil {
		return err
	}
	return emit(w, KindAdvertiser, w.view.info.ID, uint32(a.ID), a.Key, a.Status, was, a)
}

// postback sets how an advertiser's postbacks prove themselves.
func (w *plan) postback(d *AdvertiserDoc, a *Advertiser) error {
	switch {
	case d.PostbackKey != "" && d.PostbackKeyHash != "":
		return badField("postback_key_hash", "stands beside postback_key; give one of them")
	case d.PostbackKey != "":
		if err := checkSecret("postback_key", d.PostbackKey); err != nil {
			return err
		}
		a.PostbackKeyHash = HashSecret([]byte(d.PostbackKey))
	case d.PostbackKeyHash != "":
		if _, err := parseHash(d.PostbackKeyHash); err != nil {
			return badField("postback_key_hash", "%s", err)
		}
		a.PostbackKeyHash = strings.ToLower(d.PostbackKeyHash)
	}
	if d.PostbackSecret == "" {
		return nil
	}
	if err := checkSecret("postback_secret", d.PostbackSecret); err != nil {
		return err
	}
	if w.Seal == nil || w.Unseal == nil {
		return badField("postback_secret", "cannot be sealed here")
	}
	context := PostbackContext(w.view.info.ID, a.ID)
	if a.PostbackSecret != "" {
		plain, err := w.Unseal(a.PostbackSecret, context)
		if err != nil {
			return badField("postback_secret", "%s", err)
		}
		if string(plain) == d.PostbackSecret {
			return nil // sealing is random: the same secret must stay the same value
		}
	}
	sealed, err := w.Seal([]byte(d.PostbackSecret), context)
	if err != nil {
		return badField("postback_secret", "%s", err)
	}
	a.PostbackSecret = sealed
	return nil
}

func checkSecret(field, s string) error {
	if len(s) < MinSecret {
		return badField(field, "is shorter than %d characters", MinSecret)
	}
	return checkText(field, s, MaxSecret)
}

func (w *plan) affiliate(d *AffiliateDoc) error {
	if err := firstOf(w.once(KindAffiliate, 0, d.Key), checkText("name", d.Name, MaxName)); err != nil {
		return err
	}
	was := w.view.affiliates.byKey(0, []byte(d.Key))
	a := start(was, Affiliate{
		ID: event.AffiliateID(w.view.affiliates.lastID() + 1), Key: d.Key, Name: d.Key, Status: Active,
	})
	set(&a.Name, d.Name)
	set(&a.Status, d.Status)
	if err := checkStatus(a.Status); err != nil {
		return err
	}
	return emit(w, KindAffiliate, w.view.info.ID, uint32(a.ID), a.Key, a.Status, was, a)
}

// wholeCampaign plans a campaign, its banners and its prices.
func (w *plan) wholeCampaign(d *CampaignDoc) {
	if !w.try(KindCampaign, d.Key, func() error { return w.campaign(d) }) {
		return
	}
	for i := range d.Banners {
		w.try(KindBanner, d.Banners[i].Key, func() error { return w.banner(d.Key, &d.Banners[i]) })
	}
	for i := range d.Prices {
		w.price(&d.Prices[i], d.Key, i)
	}
}

func (w *plan) campaign(d *CampaignDoc) error {
	if err := firstOf(w.once(KindCampaign, 0, d.Key), checkText("name", d.Name, MaxName)); err != nil {
		return err
	}
	was := w.view.campaigns.byKey(0, []byte(d.Key))
	c := start(was, Campaign{
		ID: event.CampaignID(w.view.campaigns.lastID() + 1), Key: d.Key, Name: d.Key, Status: Active,
		ClickWindow: DefaultClickWindow,
	})
	set(&c.Name, d.Name)
	set(&c.Status, d.Status)
	set(&c.ClickWindow, int64(d.ClickWindow))
	if c.ClickWindow < 1 || c.ClickWindow > maxClickWindow {
		return badField("click_window", "is not 1 second to 400 days")
	}
	if d.SignedClicks != nil {
		c.SignedClicks = *d.SignedClicks
	}
	if d.PixelOrders != nil {
		c.PixelOrders = *d.PixelOrders
	}
	if err := firstOf(
		checkStatus(c.Status), w.ofAdvertiser(d, c), w.currency(d, was, c), landings(d, c),
		optionalURL("fallback", d.Fallback, &c.Fallback),
	); err != nil {
		return err
	}
	return emit(w, KindCampaign, w.view.info.ID, uint32(c.ID), c.Key, c.Status, was, c)
}

func (w *plan) ofAdvertiser(d *CampaignDoc, c *Campaign) error {
	if d.Advertiser == "" {
		if c.Advertiser == 0 {
			return badField("advertiser", "is required")
		}
		return nil
	}
	a := w.view.advertisers.byKey(0, []byte(d.Advertiser))
	if a == nil {
		return badField("advertiser", "%.80q does not exist", d.Advertiser)
	}
	c.Advertiser = a.ID
	return nil
}

// currency settles a campaign's currency when it is made. It never changes: amounts that were counted have none of
// their own.
func (w *plan) currency(d *CampaignDoc, was, c *Campaign) error {
	if was != nil {
		if d.Currency != "" && d.Currency != was.Currency {
			return badField("currency", "cannot change from %s; make a new campaign", was.Currency)
		}
		return nil
	}
	c.Currency = w.view.info.Currency
	if a := w.view.advertisers.byID(uint32(c.Advertiser)); a != nil {
		set(&c.Currency, a.Currency)
	}
	set(&c.Currency, d.Currency)
	return checkCurrency(c.Currency)
}

func landings(d *CampaignDoc, c *Campaign) error {
	if d.Landings == nil {
		return nil
	}
	if len(d.Landings) > MaxLandings {
		return badField("landings", "are more than %d", MaxLandings)
	}
	c.Landings = make([]Landing, len(d.Landings))
	for i, l := range d.Landings {
		u, err := CheckLanding(l.URL)
		if err != nil {
			return badField(fmt.Sprintf("landings[%d].url", i), "%s", err)
		}
		if l.Weight == 0 {
			l.Weight = 1
		}
		if l.Weight < 1 || l.Weight > maxWeight {
			return badField(fmt.Sprintf("landings[%d].weight", i), "is not 1 to %d", maxWeight)
		}
		c.Landings[i] = Landing{URL: u, Weight: l.Weight}
	}
	return nil
}

// optionalURL sets a URL that may be given empty to clear it.
func optionalURL(field string, from, to *string) error {
	if from == nil {
		return nil
	}
	if *from == "" {
		*to = ""
		return nil
	}
	u, err := CheckLanding(*from)
	if err != nil {
		return badField(field, "%s", err)
	}
	*to = u
	return nil
}

func (w *plan) banner(campaign string, d *BannerDoc) error {
	c := w.view.campaigns.byKey(0, []byte(campaign))
	if c == nil {
		return badField("campaign", "%.80q does not exist", campaign)
	}
	if err := firstOf(w.once(KindBanner, uint32(c.ID), d.Key), checkText("name", d.Name, MaxName)); err != nil {
		return err
	}
	was := w.view.banners.byKey(uint32(c.ID), []byte(d.Key))
	b := start(was, Banner{
		ID: event.BannerID(w.view.banners.lastID() + 1), Key: d.Key, Name: d.Key, Campaign: c.ID, Status: Active,
	})
	set(&b.Name, d.Name)
	set(&b.Status, d.Status)
	set(&b.Width, d.Width)
	set(&b.Height, d.Height)
	switch {
	case b.Width < 0 || b.Width > maxPixels:
		return badField("width", "is not 0 to %d", maxPixels)
	case b.Height < 0 || b.Height > maxPixels:
		return badField("height", "is not 0 to %d", maxPixels)
	}
	if err := firstOf(
		checkStatus(b.Status), optionalURL("image", d.Image, &b.Image), optionalURL("landing", d.Landing, &b.Landing),
	); err != nil {
		return err
	}
	return emit(w, KindBanner, w.view.info.ID, uint32(b.ID), b.Key, b.Status, was, b)
}

func (w *plan) apiKey(d *APIKeyDoc) error {
	if err := w.once(KindAPIKey, 0, d.Key); err != nil {
		return err
	}
	was := w.view.apiKeys.byKey(0, []byte(d.Key))
	if was == nil && w.view.apiKeys.size() >= MaxAPIKeys {
		return badField("key", "the tenant has %d API keys already", MaxAPIKeys)
	}
	k := start(was, APIKey{ID: w.view.apiKeys.lastID() + 1, Key: d.Key, Status: Active})
	set(&k.Status, d.Status)
	switch {
	case d.Secret != "" && d.Hash != "":
		return badField("hash", "stands beside secret; give one of them")
	case d.Secret != "" && len(d.Secret) < MinAPIKey:
		return badField("secret", "is shorter than %d characters", MinAPIKey)
	case d.Secret != "":
		if err := checkText("secret", d.Secret, MaxSecret); err != nil {
			return err
		}
		k.Hash = HashSecret([]byte(d.Secret))
	case d.Hash != "":
		k.Hash = strings.ToLower(d.Hash)
	}
	if _, err := parseHash(k.Hash); err != nil {
		return badField("hash", "%s", err)
	}
	if d.Rights != nil || was == nil {
		rights, err := checkRights(d.Rights)
		if err != nil {
			return err
		}
		k.Rights = slices.Clip(rights)
	}
	if err := checkStatus(k.Status); err != nil {
		return err
	}
	return emit(w, KindAPIKey, w.view.info.ID, k.ID, k.Key, k.Status, was, k)
}
