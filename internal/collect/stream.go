package collect

import "github.com/valyala/fasthttp"

func (d *Doors) stream(ctx *fasthttp.RequestCtx, w *work) int { return 0 }
