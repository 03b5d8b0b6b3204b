"""The subscriber's program, `blocklistd sync`. It imports of the publisher's code only values, lines and renderings."""
