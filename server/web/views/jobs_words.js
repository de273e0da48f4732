// Words that several pages of jobs use: statuses, methods, and whether the name moves to what was trained.
import { translator } from "../words.js";

export const METHODS = ["supervised", "dpo", "continued_pretraining", "prompt_tuning"];
export const PUBLISH = ["always", "if_better", "never"];

export const way = translator({
  en: {
    always: "Always",
    cancelled: "cancelled",
    continued_pretraining: "Plain text",
    dpo: "Preferences (DPO)",
    failed: "failed",
    if_better: "If it is better than the base on the validation file",
    never: "Never: I point the name to it myself",
    paused: "paused",
    prompt_tuning: "Soft prompt",
    queued: "waiting",
    running: "training",
    succeeded: "done",
    supervised: "Conversations",
    validating_files: "being checked",
    will_cancel: "ends after this step",
    will_pause: "pauses after this step",
  },
  pt: {
    always: "Sempre",
    cancelled: "cancelado",
    continued_pretraining: "Texto corrido",
    dpo: "Preferências (DPO)",
    failed: "falhou",
    if_better: "Se for melhor que a base no arquivo de validação",
    never: "Nunca: eu mesmo aponto o nome",
    paused: "pausado",
    prompt_tuning: "Prompt contínuo",
    queued: "na fila",
    running: "treinando",
    succeeded: "concluído",
    supervised: "Conversas",
    validating_files: "sendo verificado",
    will_cancel: "termina após este passo",
    will_pause: "pausa após este passo",
  },
});
