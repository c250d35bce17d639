# The service without embedded servers; the same image runs the API, the consumers and the projector.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /app && /app/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY . .
RUN python -m venv /build && /build/bin/pip install --no-cache-dir build \
 && /build/bin/python -m build --wheel --outdir /dist \
 && /app/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.11-slim
# Named volumes take over the owner of the folders that they are put in place of.
RUN useradd --system --uid 10001 ledger \
 && install --directory --owner=ledger /var/lib/coupon-ledger/key /var/lib/coupon-ledger/seal
COPY --from=build /app /app
USER ledger
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["coupon-ledger"]
CMD ["serve"]
