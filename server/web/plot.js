// A chart by uPlot (https://github.com/leeoniya/uPlot) as wide as its place, in the colours of the theme.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { html } from "./html.js";

const SHEET = "/console/vendor/uplot.css"; // read with the first chart

/** `options` are uPlot's but the width, taken once; `data` may change. `label` says in words what there is to see. */
export function Plot({ options, data, label }) {
  const place = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    if (!document.querySelector(`link[href="${SHEET}"]`)) document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: SHEET }));
    const frame = place.current;
    plot.current = new uPlot({ ...options, width: frame.clientWidth }, data, frame);
    const resized = new ResizeObserver(() => plot.current.setSize({ width: frame.clientWidth, height: options.height }));
    resized.observe(frame);
    const redraw = () => plot.current.redraw();
    const themed = new MutationObserver(redraw);
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", redraw);
    return () => {
      resized.disconnect();
      themed.disconnect();
      system.removeEventListener("change", redraw);
      plot.current.destroy();
    };
  }, []);
  useEffect(() => plot.current.setData(data), [data]);
  return html`<div ref=${place} role="img" aria-label=${label}></div>`;
}

/** How both axes look. */
export const AXIS = {
  stroke: () => colour("--faint"),
  grid: { stroke: () => colour("--line"), width: 1 },
  ticks: { show: false },
  font: "12px system-ui, sans-serif",
};

/** A colour of style.css as it is in the theme that is shown. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
