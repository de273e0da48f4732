// Preact without a build step: `html` makes elements of a template (https://github.com/developit/htm).
import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);
