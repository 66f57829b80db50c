/*
 * Which PostgreSQL type becomes which kind of value: one table, in one file. The kinds and their units are
 * documented in proto/siphon.proto.
 */
#ifndef SIPHON_TYPE_MAP_H
#define SIPHON_TYPE_MAP_H

#include "server/wire.h"

#include "server/pg.h"

/* How a datum is turned into a value; several ways may lead to one kind. */
enum class Encoding : uint8_t {
	Int16,
	Int32,
	Int64,
	Unsigned32,
	Float,
	Double,
	Boolean,
	Varlena, /* the bytes of a text-like varlena, in the server's encoding */
	Bytes,
	Name,
	Numeric,
	Date,
	Time,
	Timestamp,
	Timestamptz,
	Uuid,
	JsonText, /* json: text-like */
	Jsonb,    /* by output function */
	List,     /* arrays: see array_value.cpp */
	Output    /* any other: the text of the type's output function */
};

/* What it takes to make values of a type's datums. */
struct TypeMapping
{
	Encoding encoding;
	bool by_value;
	char align;
	int16 length;
	Oid type;             /* without domains */
	FmgrInfo *output;     /* see type_output() */
	TypeMapping *element; /* List: its elements' */
};

/* Domains count as their base type. Memory is taken from the current context. */
extern void type_mapping(Oid type, TypeMapping *mapping);

/*
 * The type's output function, which is looked for when there is a value for it: it may be in a library that is not
 * there. `blame` says so then.
 */
extern FmgrInfo *type_output(TypeMapping *mapping);

/* Are values of two types written alike, as those of varchar and text are? The first may be gone. */
extern bool are_written_alike(Oid former, Oid present);

#endif
