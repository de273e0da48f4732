// What the console shows, in the order of its menu. Each view is read when it is first opened.
import { translator } from "./words.js";

const t = translator({
  en: { adapters: "Adapters", assistants: "Assistants", chat: "Chat", compare: "Compare", jobs: "Jobs", knowledge: "Knowledge", load: "Load" },
  pt: { adapters: "Adaptadores", assistants: "Assistentes", chat: "Conversa", compare: "Comparar", jobs: "Treinos", knowledge: "Conhecimento", load: "Carga" },
});

/** `admin`: whether it needs an admin's key; `load()` gives a module whose default export is the view. */
export const VIEWS = [
  { name: "chat", admin: false, load: () => import("./views/chat.js") },
  { name: "compare", admin: false, load: () => import("./views/compare.js") },
  { name: "adapters", admin: true, load: () => import("./views/adapters.js") },
  { name: "jobs", admin: true, load: () => import("./views/jobs.js") },
  { name: "assistants", admin: true, load: () => import("./views/assistants.js") },
  { name: "knowledge", admin: false, load: () => import("./views/knowledge.js") },
  { name: "load", admin: false, load: () => import("./views/load.js") },
].map((view) => ({ ...view, title: () => t(view.name) }));
