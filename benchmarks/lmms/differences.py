"""What remains different from lmms-eval, and why: in the results and on the page."""

DIFFERENCES = """\
- **Guessed letters** (EgoSchema, NExT-QA, LongVideoBench, MMMU, MMBench with a judge): where nothing can be read,
  lmms-eval draws from one stream for all questions; our `guess: true` draws by the question's id. Equal above because
  neither draws.
- **Rounding**: LongVideoBench, MMMU, MathVista and LLaVA-Bench are rounded by lmms-eval (5, 5, 2 and 1 decimals); ours
  are not.
- **White space around an answer**: both sides take it away before anything else, `ppl predict` when it writes a row. A
  row written by hand with blanks around its text may differ (what judges are told).
- **MMBench's judge** is asked more here (68 times above, where lmms-eval asks 55 of the same): lmms-eval stops at a
  question's first wrong rotation, we ask about all of them at once. The scores are equal.
- **MMBench, cut off**: lmms-eval takes the rotations that were answered for all of them; here such a question is
  incomplete and in no mean. So are MME's images with one question.
- **MMBench in Chinese** is announced in English ("There are several options:"): lmms-eval 0.7.3's Chinese task reads
  the English group's file. So does ours; `english_header: false` says it in Chinese.
- **ActivityNet-QA** with a judge's reply that cannot be read: lmms-eval stops, here it is counted and left out.
- **VCG-Bench** with three processes: lmms-eval loses pairs; here the questions tell.
- **NExT-QA's open questions**: lmms-eval takes words by NLTK's tokenizer, which keeps punctuation, and base forms by
  pywsd, behind a tagger of parts of speech whose weights are no Python package. Here a word is a verb if it can be
  one, and punctuation is dropped. Above, both sides have our words; all else (NLTK's WordNet, WUPS, stop words, two
  references, exact types) is lmms-eval's own. With its own words (run once, by hand: pywsd 1.2.5, NLTK 3.10.4, the
  tagger of nltk_data 5db857e, sentences not split) 30 of the 432 answers are worth something else, and the score is
  6.38 where ours is 6.88: "played" by itself is a noun there, and "Yes." is not "yes" where the answer must be exact.
- **MSVD-QA, MSRVTT-QA and TGIF-QA** are not in lmms-eval.
"""
