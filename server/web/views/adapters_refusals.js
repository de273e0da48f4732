// The way out of each refusal, by the error's code; the server's own sentence says what was found in this adapter.

const WAYS = {
  baseline: "embedding_lora smaller_base larger_base other_base missing_layers unknown_modules",
  bfloat16: "too_large wrong_dtype source_too_large request_too_large",
  diverged: "nan_weights inf_weights nan_alpha",
  exact: "modified_base",
  free: "pin_limit",
  full: "no_base_weights",
  lfs: "lfs_pointer",
  mix: "bad_mix",
  linear: "bad_shape target_parameters layer_replication",
  name: "name_invalid name_taken",
  pack: "damaged_archive not_an_archive encrypted_archive duplicate_files several_adapters too_many_files zip_bomb links path_escape",
  patterns: "bad_pattern",
  prompts: "prompt_tuning_off too_many_virtual_tokens",
  pickle: "pickle_weights",
  place: "not_allowed credentials",
  plain: "dora alora lora_bias modules_to_save trainable_tokens unsupported_variant wrong_peft_type wrong_task_type",
  rank: "rank_above_limit",
  ranks: "rank_mismatch rank_zero",
  save: "config_missing weights_missing bad_config empty truncated_file lying_header duplicate_tensors unknown_tensors missing_half not_convertible",
  train: "no_effect",
  url: "bad_url unknown_protocol source_not_found source_unavailable",
};

const BY_CODE = new Map(Object.entries(WAYS).flatMap(([way, codes]) => codes.split(" ").map((code) => [code, way])));

/** The key of the words (adapters_ways.js) for a code, or null for one without a way out of its own. */
export const wayOut = (code) => BY_CODE.get(code) ?? null;

/**
 * The conversion that would make the adapter fit, as the API's `convert`, or null: a cut to the rank that the server
 * takes, or a plain LoRA of another kind of adapter.
 */
export function conversionFor({ code, message }) {
  if (code === "rank_above_limit") {
    const most = /takes up to (\d+)/.exec(message);
    return most ? { rank: Number(most[1]) } : {};
  }
  return /register it with convert/.test(message) ? {} : null;
}
