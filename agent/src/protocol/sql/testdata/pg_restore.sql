SELECT pg_catalog.set_config('search_path', '', false);
-- ~
CREATE DATABASE app2;
-- ~
SET statement_timeout = 0;
-- ~
SET lock_timeout = 0;
-- ~
SET idle_in_transaction_session_timeout = 0;
-- ~
SET client_encoding = 'UTF8';
-- ~
SET standard_conforming_strings = on;
-- ~
SET check_function_bodies = false;
-- ~
SET xmloption = content;
-- ~
SET client_min_messages = warning;
-- ~
SET row_security = off;
-- ~
CREATE SCHEMA crm;
-- ~
ALTER SCHEMA crm OWNER TO postgres;
-- ~
CREATE TYPE public.mood AS ENUM (
    'sad',
    'ok'
);
-- ~
ALTER TYPE public.mood OWNER TO postgres;
-- ~
CREATE TYPE public.pair AS (
	a integer,
	b text
);
-- ~
ALTER TYPE public.pair OWNER TO postgres;
-- ~
CREATE DOMAIN public.posint AS integer
	CONSTRAINT posint_check CHECK ((VALUE > 0));
-- ~
ALTER DOMAIN public.posint OWNER TO postgres;
-- ~
CREATE FUNCTION public.f(a integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$ BEGIN RETURN a + 1; END $$;
-- ~
ALTER FUNCTION public.f(a integer) OWNER TO postgres;
-- ~
CREATE FUNCTION public.tg() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$ BEGIN RETURN NEW; END $$;
-- ~
ALTER FUNCTION public.tg() OWNER TO postgres;
-- ~
CREATE AGGREGATE public.agg(integer) (
    SFUNC = int4pl,
    STYPE = integer
);
-- ~
ALTER AGGREGATE public.agg(integer) OWNER TO postgres;
-- ~
SET default_tablespace = '';
-- ~
SET default_table_access_method = heap;
-- ~
CREATE TABLE crm.customers (
    id integer NOT NULL,
    name text NOT NULL,
    email character varying(80),
    m public.mood DEFAULT 'ok'::public.mood,
    n public.posint,
    created timestamp with time zone DEFAULT now()
);
-- ~
ALTER TABLE crm.customers OWNER TO postgres;
-- ~
CREATE SEQUENCE crm.customers_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
-- ~
ALTER TABLE crm.customers_id_seq OWNER TO postgres;
-- ~
ALTER SEQUENCE crm.customers_id_seq OWNED BY crm.customers.id;
-- ~
CREATE TABLE public.orders (
    id bigint NOT NULL,
    customer_id integer,
    total numeric(10,2),
    p public.pair,
    tags text[] DEFAULT '{}'::text[],
    CONSTRAINT orders_total_check CHECK ((total >= (0)::numeric))
);
-- ~
ALTER TABLE public.orders OWNER TO postgres;
-- ~
COMMENT ON TABLE public.orders IS 'the orders';
-- ~
CREATE TABLE public.inh (
)
INHERITS (public.orders);
-- ~
ALTER TABLE public.inh OWNER TO postgres;
-- ~
CREATE MATERIALIZED VIEW public.mv AS
 SELECT count(*) AS count
   FROM public.orders
  WITH NO DATA;
-- ~
ALTER TABLE public.mv OWNER TO postgres;
-- ~
ALTER TABLE public.orders ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.orders_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
-- ~
CREATE TABLE public.part (
    id integer,
    d date
)
PARTITION BY RANGE (d);
-- ~
ALTER TABLE public.part OWNER TO postgres;
-- ~
CREATE TABLE public.part1 (
    id integer,
    d date
);
-- ~
ALTER TABLE public.part1 OWNER TO postgres;
-- ~
CREATE SEQUENCE public.sq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
-- ~
ALTER TABLE public.sq OWNER TO postgres;
-- ~
CREATE VIEW public.v AS
 SELECT c.name,
    o.total
   FROM (crm.customers c
     JOIN public.orders o ON ((o.customer_id = c.id)));
-- ~
ALTER TABLE public.v OWNER TO postgres;
-- ~
ALTER TABLE ONLY public.part ATTACH PARTITION public.part1 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
-- ~
ALTER TABLE ONLY crm.customers ALTER COLUMN id SET DEFAULT nextval('crm.customers_id_seq'::regclass);
-- ~
ALTER TABLE ONLY public.inh ALTER COLUMN tags SET DEFAULT '{}'::text[];
-- ~
SELECT pg_catalog.lo_create('4711');
-- ~
ALTER LARGE OBJECT 4711 OWNER TO postgres;
-- ~
COPY crm.customers (id, name, email, m, n, created) FROM stdin;
-- ~
COPY public.inh (id, customer_id, total, p, tags) FROM stdin;
-- ~
COPY public.orders (id, customer_id, total, p, tags) FROM stdin;
-- ~
COPY public.part1 (id, d) FROM stdin;
-- ~
SELECT pg_catalog.setval('crm.customers_id_seq', 11, true);
-- ~
SELECT pg_catalog.setval('public.sq', 1, false);
-- ~
BEGIN;
-- ~
SELECT pg_catalog.lo_open('4711', 131072);
-- ~
SELECT pg_catalog.lo_close(0);
-- ~
COMMIT;
-- ~
ALTER TABLE ONLY crm.customers
    ADD CONSTRAINT customers_email_key UNIQUE (email);
-- ~
ALTER TABLE ONLY crm.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);
-- ~
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
-- ~
CREATE INDEX customers_lower_idx ON crm.customers USING btree (lower((email)::text)) WHERE ((n)::integer > 1);
-- ~
CREATE STATISTICS public.st ON id, total FROM public.orders;
-- ~
ALTER STATISTICS public.st OWNER TO postgres;
-- ~
CREATE RULE r AS
    ON INSERT TO public.v DO INSTEAD NOTHING;
-- ~
CREATE TRIGGER t BEFORE UPDATE ON public.orders FOR EACH ROW EXECUTE FUNCTION public.tg();
-- ~
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES crm.customers(id) ON DELETE CASCADE;
-- ~
ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY;
-- ~
CREATE POLICY pol ON public.orders USING ((total > (0)::numeric));
-- ~
CREATE PUBLICATION pub WITH (publish = 'insert, update, delete, truncate');
-- ~
ALTER PUBLICATION pub OWNER TO postgres;
-- ~
ALTER PUBLICATION pub ADD TABLE ONLY public.inh;
-- ~
ALTER PUBLICATION pub ADD TABLE ONLY public.orders;
-- ~
GRANT SELECT ON TABLE public.orders TO bob;
-- ~
REFRESH MATERIALIZED VIEW public.mv;
-- ~
SELECT pg_catalog.pg_is_in_recovery()
-- ~
--
-- PostgreSQL database dump
--
-- ~
-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- ~
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)
-- ~

-- ~
DROP PUBLICATION IF EXISTS pub;
-- ~
DROP POLICY IF EXISTS pol ON public.orders;
-- ~
ALTER TABLE IF EXISTS ONLY public.orders DROP CONSTRAINT IF EXISTS orders_customer_id_fkey;
-- ~
DROP TRIGGER IF EXISTS t ON public.orders;
-- ~
DROP RULE IF EXISTS r ON public.v;
-- ~
DROP STATISTICS IF EXISTS public.st;
-- ~
DROP INDEX IF EXISTS crm.customers_lower_idx;
-- ~
ALTER TABLE IF EXISTS ONLY public.orders DROP CONSTRAINT IF EXISTS orders_pkey;
-- ~
ALTER TABLE IF EXISTS ONLY crm.customers DROP CONSTRAINT IF EXISTS customers_pkey;
-- ~
ALTER TABLE IF EXISTS ONLY crm.customers DROP CONSTRAINT IF EXISTS customers_email_key;
-- ~
SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = '4711';
-- ~
ALTER TABLE IF EXISTS public.inh ALTER COLUMN tags DROP DEFAULT;
-- ~
ALTER TABLE IF EXISTS crm.customers ALTER COLUMN id DROP DEFAULT;
-- ~
DROP VIEW IF EXISTS public.v;
-- ~
DROP SEQUENCE IF EXISTS public.sq;
-- ~
DROP TABLE IF EXISTS public.part1;
-- ~
DROP TABLE IF EXISTS public.part;
-- ~
DROP MATERIALIZED VIEW IF EXISTS public.mv;
-- ~
DROP TABLE IF EXISTS public.inh;
-- ~
DROP TABLE IF EXISTS public.orders;
-- ~
DROP SEQUENCE IF EXISTS crm.customers_id_seq;
-- ~
DROP TABLE IF EXISTS crm.customers;
-- ~
DROP AGGREGATE IF EXISTS public.agg(integer);
-- ~
DROP FUNCTION IF EXISTS public.tg();
-- ~
DROP FUNCTION IF EXISTS public.f(a integer);
-- ~
DROP DOMAIN IF EXISTS public.posint;
-- ~
DROP TYPE IF EXISTS public.pair;
-- ~
DROP TYPE IF EXISTS public.mood;
-- ~
DROP SCHEMA IF EXISTS crm;
-- ~
SET default_tablespace = ''
-- ~
BEGIN
-- ~
select proname, oid from pg_catalog.pg_proc where proname in ('lo_open', 'lo_close', 'lo_creat', 'lo_create', 'lo_unlink', 'lo_lseek', 'lo_lseek64', 'lo_tell', 'lo_tell64', 'lo_truncate', 'lo_truncate64', 'loread', 'lowrite') and pronamespace = (select oid from pg_catalog.pg_namespace where nspname = 'pg_catalog')
-- ~
COMMIT
-- ~
--
-- PostgreSQL database dump complete
--
