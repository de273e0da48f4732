// The conversations that this browser keeps, each under a name of its own, so that two tabs do not overwrite each other's.
import { signal } from "@preact/signals";
import { answered, newConversation } from "../conversation.js";
import { models } from "../models.js";

const PREFIX = "manyhats.chat.";
const CURRENT = "manyhats.chat-open"; // in this tab

/** Those that have a turn, the newest first. */
export const conversations = signal(readAll());
/** The one that is open; it is not kept before its first turn. */
export const current = signal(null);
/** Why the last change could not be kept, or null. */
export const unkept = signal(null);
/** What was typed and not sent yet, by conversation. */
export const drafts = new Map();

/** An empty conversation; what was typed and set in one without a turn stays. */
export function openNew(model = usualModel()) {
  const before = current.value;
  if (before && !before.turns.length) open({ ...before, model });
  else open(newConversation({ id: crypto.randomUUID?.() ?? String(Math.random()), model, created: Date.now() / 1000 }));
}

export function open(conversation) {
  current.value = conversation;
  attempt(() => sessionStorage.setItem(CURRENT, conversation.id));
}

/** The conversation that was open in this tab, else a new one. */
export function openLast() {
  let id = null;
  attempt(() => (id = sessionStorage.getItem(CURRENT)));
  const last = conversations.value.find((one) => one.id === id);
  if (last) open(last);
  else openNew();
}

export function change(conversation) {
  if (current.value?.id === conversation.id) current.value = conversation;
  if (!conversation.turns.length) return;
  const others = conversations.value.filter((one) => one.id !== conversation.id);
  conversations.value = [conversation, ...others].sort((one, other) => other.created - one.created);
  unkept.value = attempt(() => localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation)));
}

/** Puts an answer under the question that it was asked for, wherever the reader is meanwhile. */
export function addAnswer(id, answer) {
  const conversation = conversations.value.find((one) => one.id === id);
  if (conversation?.turns.at(-1)?.role === "user") change(answered(conversation, answer));
}

export function forget(id) {
  conversations.value = conversations.value.filter((one) => one.id !== id);
  drafts.delete(id);
  attempt(() => localStorage.removeItem(PREFIX + id));
  if (current.value?.id === id) openNew(current.value.model);
}

function usualModel() {
  const names = (models.value ?? []).map((entry) => entry.id);
  const latest = current.value?.model ?? conversations.value[0]?.model;
  if (names.includes(latest)) return latest;
  const assistant = models.value?.find((entry) => entry.type === "assistant");
  return assistant?.id ?? names[0] ?? latest ?? "";
}

function readAll() {
  const found = [];
  attempt(() => {
    for (const name of Object.keys(localStorage).filter((one) => one.startsWith(PREFIX))) {
      const conversation = JSON.parse(localStorage.getItem(name));
      if (Array.isArray(conversation?.turns)) found.push({ ...newConversation(conversation), ...conversation });
    }
  });
  return found.sort((one, other) => other.created - one.created);
}

/** A browser may keep nothing, or no more: the error, or null. */
function attempt(act) {
  try {
    act();
    return null;
  } catch (error) {
    return error;
  }
}
