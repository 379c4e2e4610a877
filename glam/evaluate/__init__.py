"""Evaluation: task files, scores of texts, and an adapter for EleutherAI's lm-eval.

read_task(path) -> Task                             glam.evaluate.task
evaluate(language, task, shots) -> Result           glam.evaluate.evaluation
averages(results) -> {"NLG", "NLU", "all"}          glam.evaluate.evaluation
Language(model): log-likelihoods and completions    glam.evaluate.language
Harness(language): what lm_eval.evaluate takes      glam.evaluate.harness
"""
