"""Checkpoints of networks of text, as the hub would have them, with tiny random weights."""

import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers as tf
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

HIDDEN = 16
WINDOW = 48  # positions of an encoder: short, so that tests reach its end
WRITER_WINDOW = 64
NEW_TOKENS = 16  # no checkpoint here writes more: tests need no long rubbish
LETTERS = string.ascii_letters + string.digits + string.punctuation
BERT: dict[str, Any] = {
    **{"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    **{"max_position_embeddings": WINDOW, "initializer_range": 0.6},
}
BART: dict[str, Any] = {
    **{"d_model": HIDDEN, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": WRITER_WINDOW, "init_std": 0.6},
}
T5: dict[str, Any] = {"d_model": HIDDEN, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "initializer_factor": 5.0}
NER = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
CHAT_TEMPLATE = (  # Qwen2.5's, without tools
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = ("the quick brown fox jumps over the lazy dog .", "Der schnelle Fuchs springt , und der Hund schläft !", "Ça va ? 12345 67890")


def summarization(folder: Path) -> None:
    """facebook/bart-large-cnn, with its way of searching."""
    torch.manual_seed(0)
    net = tf.BartForConditionalGeneration(_bart_config())
    search = {"num_beams": 2, "no_repeat_ngram_size": 3, "length_penalty": 2.0, "early_stopping": True}
    net.generation_config.update(max_length=40, min_length=8, **search)
    _save(folder, net, bart_tokenizer())


def nllb(folder: Path) -> None:
    """facebook/nllb-200-distilled-600M: M2M100's network with codes such as deu_Latn."""
    letters = [*"▁", *LETTERS, *"äöüß"]
    vocabulary = {token: place for place, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])}
    tokenizer = tf.NllbTokenizer(vocab=vocabulary, merges=[], src_lang="eng_Latn", model_max_length=WRITER_WINDOW)
    net = _m2m100(len(tokenizer))
    with torch.no_grad():
        net.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(["</s>", *FAIRSEQ_LANGUAGE_CODES])] *= (
            0.2  # so that it says letters
        )
    _save(folder, net, tokenizer)


def m2m100(folder: Path) -> None:
    """facebook/m2m100_418M: its tokenizer is sentencepiece's own."""
    vocabulary = _sentencepiece(folder, "sentencepiece.bpe.model")
    _write(folder / "vocab.json", {token: place for place, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *vocabulary])})
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "M2M100Tokenizer", "model_max_length": WRITER_WINDOW, "src_lang": None})
    tokenizer = tf.M2M100Tokenizer.from_pretrained(folder)
    _save(folder, _m2m100(tokenizer.encoder_size + 120), None)


def marian(folder: Path) -> None:
    """Helsinki-NLP/opus-mt-en-de: one pair, named in the tokenizer's configuration."""
    _marian(folder, source="en", target="de", codes=())


def marian_many(folder: Path) -> None:
    """Helsinki-NLP/opus-mt-en-ROMANCE and its like: the target stands before the text."""
    _marian(folder, source="eng", target="roa", codes=(">>fra<<", ">>spa<<", ">>pt<<"))


def mbart50(folder: Path) -> None:
    """facebook/mbart-large-50-many-to-many-mmt."""
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((letter, -1.0) for letter in "▁" + LETTERS)]
    tokenizer = tf.MBart50Tokenizer(vocab=vocabulary, src_lang="en_XX", model_max_length=WRITER_WINDOW)
    torch.manual_seed(0)
    config = tf.MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=2, forced_eos_token_id=2, **BART)
    _save(folder, tf.MBartForConditionalGeneration(config), tokenizer)


def t5(folder: Path) -> None:
    """google-t5/t5-small: what it can do stands in its configuration."""
    taught = {
        "summarization": {"prefix": "summarize: ", "max_length": 30, "min_length": 5, "num_beams": 2, "no_repeat_ngram_size": 3},
        "translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 2, "max_length": 30},
        "translation_en_to_fr": {"prefix": "translate English to French: ", "num_beams": 2, "max_length": 30},
    }
    _save(folder, _t5(task_specific_params=taught), t5_tokenizer())


def flan_t5(folder: Path) -> None:
    """google/flan-t5-base: instructions, nothing in the configuration."""
    _save(folder, _t5(), t5_tokenizer())


def extractive_qa(folder: Path) -> None:
    """distilbert/distilbert-base-cased-distilled-squad."""
    torch.manual_seed(0)
    _save(folder, tf.DistilBertForQuestionAnswering(_distilbert_config()), bert_tokenizer(do_lower_case=False))


def causal_lm(folder: Path) -> None:
    """Qwen/Qwen2.5-0.5B-Instruct: bytes, a chat template, and two tokens that end a reply."""
    tokens = _bytes("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = tf.Qwen2Tokenizer(vocab=tokens, merges=[], eos_token="<|im_end|>", model_max_length=128)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    layers = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    config = tf.Qwen2Config(
        vocab_size=len(tokenizer), max_position_embeddings=128, initializer_range=0.6, tie_word_embeddings=True, **layers
    )
    torch.manual_seed(0)
    net = tf.Qwen2ForCausalLM(config)
    net.generation_config.update(eos_token_id=[2, 0], do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.1)
    _save(folder, net, tokenizer)


def gpt2(folder: Path) -> None:
    """openai-community/gpt2: no template, no padding token."""
    tokenizer = tf.GPT2Tokenizer(vocab=_bytes("<|endoftext|>"), merges=[], model_max_length=WRITER_WINDOW)
    layers = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": WRITER_WINDOW, "initializer_range": 0.6}
    torch.manual_seed(0)
    _save(folder, tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, **layers)), tokenizer)


def blenderbot(folder: Path) -> None:
    """facebook/blenderbot_small-90M's kind: it reads what is said and writes a reply."""
    torch.manual_seed(0)
    _save(folder, tf.BartForConditionalGeneration(_bart_config()), bart_tokenizer())


def sequence_classification(folder: Path) -> None:
    """distilbert/distilbert-base-uncased-finetuned-sst-2-english."""
    _save(folder, _classifier(tf.DistilBertForSequenceClassification, _distilbert_config, "NEGATIVE", "POSITIVE"), bert_tokenizer())


def several_labels(folder: Path) -> None:
    """unitary/toxic-bert and its like: labels that may hold together."""
    kind = {"problem_type": "multi_label_classification"}
    _save(folder, _classifier(tf.BertForSequenceClassification, _bert_config, "toxic", "insult", "threat", **kind), bert_tokenizer())


def roberta_classification(folder: Path) -> None:
    """cardiffnlp/twitter-roberta-base-sentiment: positions counted from the padding token, labels without names."""
    tokenizer = roberta_tokenizer()
    config = tf.RobertaConfig(vocab_size=len(tokenizer), type_vocab_size=1, pad_token_id=1, num_labels=3, **BERT)
    torch.manual_seed(0)
    _save(folder, tf.RobertaForSequenceClassification(config), tokenizer)


def gpt2_classification(folder: Path) -> None:
    """A decoder with a score head and no padding token."""
    tokenizer = tf.GPT2Tokenizer(vocab=_bytes("<|endoftext|>"), merges=[], model_max_length=WINDOW)
    layers = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_positions": WINDOW, "initializer_range": 0.6}
    torch.manual_seed(0)
    config = tf.GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, num_labels=2, **layers)
    _save(folder, tf.GPT2ForSequenceClassification(config), tokenizer)


def entailment(folder: Path) -> None:
    """facebook/bart-large-mnli."""
    _save(folder, _classifier(tf.BartForSequenceClassification, _bart_config, "contradiction", "neutral", "entailment"), bart_tokenizer())


def token_classification(folder: Path) -> None:
    """dslim/bert-base-NER."""
    _save(folder, _classifier(tf.BertForTokenClassification, _bert_config, *NER), bert_tokenizer(do_lower_case=False))


def roberta_ner(folder: Path) -> None:
    """Davlan/xlm-roberta-base-ner-hrl and its like: tokens that take the space before a word in."""
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in "▁" + LETTERS + "ß東京都に")]
    tokenizer = tf.XLMRobertaTokenizer(vocab=[*vocabulary, ("<mask>", 0.0)], model_max_length=WINDOW - 2)
    tokens = {"vocab_size": len(tokenizer), "type_vocab_size": 1, "pad_token_id": 1}
    _save(folder, _classifier(tf.XLMRobertaForTokenClassification, tf.XLMRobertaConfig, *NER, **tokens, **BERT), tokenizer)


def sentence_embedding(folder: Path) -> None:
    """sentence-transformers/all-MiniLM-L6-v2: mean pooling, a pooler that nobody asks."""
    torch.manual_seed(0)
    _save(folder, tf.BertModel(_bert_config()), bert_tokenizer())
    sentence_transformers(folder, pooling_mode_mean_tokens=True)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})


def bare_encoder(folder: Path) -> None:
    """google-bert/bert-base-uncased as feature extractor: a masked language model, no word about pooling, no pooler."""
    fill_mask(folder)


def t5_encoder(folder: Path) -> None:
    """sentence-transformers/gtr-t5-base: T5's encoder alone, and a dense layer after the mean."""
    torch.manual_seed(0)
    _save(folder, tf.T5EncoderModel(tf.T5Config(vocab_size=len(t5_tokenizer()), **T5)), t5_tokenizer())
    sentence_transformers(folder, dense=8, pooling_mode_mean_tokens=True)


def last_token_embedding(folder: Path) -> None:
    """Qwen/Qwen3-Embedding-0.6B's kind: a decoder, its last token, a prompt before every text."""
    causal_lm(folder)
    sentence_transformers(folder, pooling_mode_lasttoken=True)
    prompts = {"query": "Find: ", "document": ""}
    _write(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "query"})


def fill_mask(folder: Path) -> None:
    """google-bert/bert-base-uncased."""
    torch.manual_seed(0)
    _save(folder, tf.BertForMaskedLM(_bert_config()), bert_tokenizer())


def roberta_fill_mask(folder: Path) -> None:
    """FacebookAI/roberta-base: <mask>, which takes the space before it in."""
    tokenizer = roberta_tokenizer()
    torch.manual_seed(0)
    _save(folder, tf.RobertaForMaskedLM(tf.RobertaConfig(vocab_size=len(tokenizer), type_vocab_size=1, pad_token_id=1, **BERT)), tokenizer)


def table_qa(folder: Path) -> None:
    """google/tapas-base-finetuned-wtq."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EMPTY]", *_pieces(string.ascii_lowercase + string.digits + string.punctuation)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = tf.TapasTokenizer(folder / "vocab.txt", model_max_length=96)
    operators = {0: "NONE", 1: "SUM", 2: "AVERAGE", 3: "COUNT"}
    heads = {"num_aggregation_labels": 4, "aggregation_labels": operators, "no_aggregation_label_index": 0, "select_one_column": True}
    torch.manual_seed(0)
    config = tf.TapasConfig(vocab_size=len(words), **{**BERT, "max_position_embeddings": 96}, **heads, max_num_rows=64, max_num_columns=32)
    net = tf.TapasForQuestionAnswering(config)
    net.output_bias.data.fill_(3.3)  # so that it picks some cells
    net.aggregation_classifier.bias.data[1] -= 4.7  # and does not sum them all
    _save(folder, net, tokenizer)


def cross_encoder(folder: Path) -> None:
    """cross-encoder/ms-marco-MiniLM-L6-v2: one score."""
    _save(folder, _classifier(tf.BertForSequenceClassification, _bert_config, "LABEL_0"), bert_tokenizer())


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "summarization": summarization,
    "summarization/t5": t5,
    "translation": nllb,
    "translation/m2m100": m2m100,
    "translation/marian": marian,
    "translation/marian-many": marian_many,
    "translation/mbart50": mbart50,
    "translation/t5": t5,
    "question-answering": extractive_qa,
    "text-generation": causal_lm,
    "text-generation/gpt2": gpt2,
    "text-classification": sequence_classification,
    "text-classification/several": several_labels,
    "text-classification/roberta": roberta_classification,
    "text-classification/gpt2": gpt2_classification,
    "zero-shot-classification": entailment,
    "token-classification": token_classification,
    "token-classification/xlm-roberta": roberta_ner,
    "sentence-similarity": sentence_embedding,
    "text2text-generation": flan_t5,
    "conversational": causal_lm,
    "conversational/gpt2": gpt2,
    "conversational/bart": blenderbot,
    "fill-mask": fill_mask,
    "fill-mask/roberta": roberta_fill_mask,
    "feature-extraction": sentence_embedding,
    "feature-extraction/bert": bare_encoder,
    "feature-extraction/t5": t5_encoder,
    "feature-extraction/qwen": last_token_embedding,
    "table-question-answering": table_qa,
    "text-ranking": cross_encoder,
}


def bert_tokenizer(**options: Any) -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_pieces(LETTERS), "the", "text", "Berlin"]
    return tf.BertTokenizer(vocab={word: place for place, word in enumerate(words)}, model_max_length=WINDOW, **options)


def roberta_tokenizer() -> Any:
    return tf.RobertaTokenizer(vocab=_bytes("<s>", "<pad>", "</s>", "<unk>", last="<mask>"), merges=[], model_max_length=WINDOW - 2)


def bart_tokenizer() -> Any:
    tokens = _bytes("<s>", "<pad>", "</s>", "<unk>", last="<mask>")
    return tf.BartTokenizer(vocab=tokens, merges=[], model_max_length=WRITER_WINDOW)


def t5_tokenizer() -> Any:
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in "▁" + LETTERS)]
    return tf.T5Tokenizer(vocab=vocabulary, extra_ids=2, model_max_length=WINDOW)


def sentence_transformers(folder: Path, dense: int = 0, **pooling: Any) -> None:
    """What sentence-transformers writes beside a network: its steps, how they pool, a dense layer of so many numbers."""
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    paths = ["" if kind == "Transformer" else f"{place}_{kind}" for place, kind in enumerate(kinds)]
    steps = zip(kinds, paths, strict=True)
    _write(folder / "modules.json", [{"name": path, "path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in steps])
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False, **pooling})
    if dense:
        activation = "torch.nn.modules.linear.Identity"
        _write(
            folder / "2_Dense" / "config.json",
            {"in_features": HIDDEN, "out_features": dense, "bias": False, "activation_function": activation},
        )
        save_file({"linear.weight": torch.randn(dense, HIDDEN)}, folder / "2_Dense" / "model.safetensors")


def _bert_config(**options: Any) -> Any:
    return tf.BertConfig(vocab_size=len(bert_tokenizer()), **BERT, **options)


def _distilbert_config(**options: Any) -> Any:
    layers = {"dim": HIDDEN, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": WINDOW, "initializer_range": 0.6}
    return tf.DistilBertConfig(vocab_size=len(bert_tokenizer()), **layers, **options)


def _bart_config(**options: Any) -> Any:
    return tf.BartConfig(vocab_size=len(bart_tokenizer()), **BART, **options)


def _classifier(kind: Any, config: Callable[..., Any], *labels: str, **options: Any) -> Any:
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}
    return kind(config(**names, **options))


def _m2m100(tokens: int) -> Any:
    torch.manual_seed(0)
    config = tf.M2M100Config(vocab_size=tokens, decoder_start_token_id=2, pad_token_id=1, bos_token_id=0, eos_token_id=2, **BART)
    return tf.M2M100ForConditionalGeneration(config)


def _t5(**options: Any) -> Any:
    torch.manual_seed(0)
    return tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=len(t5_tokenizer()), decoder_start_token_id=0, **T5, **options))


def _marian(folder: Path, source: str, target: str, codes: Sequence[str]) -> None:
    """Two sentencepiece models and a vocabulary of their pieces, padding last."""
    pieces = dict.fromkeys([*_sentencepiece(folder, "source.spm"), *_sentencepiece(folder, "target.spm")])
    tokens = ["</s>", "<unk>", *pieces, *codes, "<pad>"]
    _write(folder / "vocab.json", {token: place for place, token in enumerate(tokens)})
    names = {"source_lang": source, "target_lang": target, "tokenizer_class": "MarianTokenizer", "model_max_length": WRITER_WINDOW}
    _write(folder / "tokenizer_config.json", names)
    pad = len(tokens) - 1
    starts = {"decoder_start_token_id": pad, "pad_token_id": pad, "eos_token_id": 0, "bos_token_id": 0, "forced_eos_token_id": 0}
    torch.manual_seed(0)
    net = tf.MarianMTModel(tf.MarianConfig(vocab_size=len(tokens), **starts, **BART))
    net.generation_config.update(num_beams=2, bad_words_ids=[[pad]])
    _save(folder, net, None)


def _sentencepiece(folder: Path, name: str) -> list[str]:
    """Trains a model of single characters, writes it, and gives its pieces without its marks."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with path.open("wb") as file:
        lines = iter([*SENTENCES, " ".join(LETTERS)])
        options = {"model_type": "char", "vocab_size": 120, "hard_vocab_limit": False, "minloglevel": 2, "character_coverage": 1.0}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=file, **options)
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(place) for place in range(3, model.get_piece_size())]


def _bytes(*first: str, last: str | None = None) -> dict[str, int]:
    words = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet()), *([last] if last else [])]
    return {word: place for place, word in enumerate(words)}


def _pieces(letters: str) -> list[str]:
    return [*letters, *(f"##{letter}" for letter in letters)]


def _save(folder: Path, network: Any, tokenizer: Any) -> None:
    if network.can_generate():
        network.generation_config.update(max_new_tokens=NEW_TOKENS)
    network.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
